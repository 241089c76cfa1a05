from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cleanup.companions import Companions


def groups(*names: str) -> set[str]:
    """The groups of a folder, as `main+main: other other`."""
    listed = sorted(name.encode() for name in names)
    companions = Companions(listed)
    found = set()
    for place in range(len(listed)):
        group = companions.group_of(place)
        mains = "+".join(listed[main].decode() for main in group.mains)
        found.add(": ".join([mains, " ".join(listed[other].decode() for other in group.others)]) if group.others else mains)
    return found


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["x.png", "x.txt", "x.json"], {"x.png: x.json x.txt"}),
        (["x.png", "x.png.txt", "x.png.json"], {"x.png: x.png.json x.png.txt"}),
        (["x.png", "x.txt", "xy.png", "x-1.png"], {"x.png: x.txt", "xy.png", "x-1.png"}),
        (["x.png", "x.jpg"], {"x.png", "x.jpg"}),
        (["x.png", "x.jpg", "x.txt"], {"x.jpg+x.png: x.txt"}),
        (["x.png", "x.jpg", "x.png.txt"], {"x.png: x.png.txt", "x.jpg"}),
        (["x.txt", "x.json"], {"x.txt", "x.json"}),
        (["x", "x.png", "x.txt"], {"x: x.txt", "x.png"}),
        ([".txt", "x.txt"], {".txt", "x.txt"}),
        (["P_00001.mp4", "P_00001.png", "P_00001-audio.mp4"], {"P_00001.mp4: P_00001-audio.mp4 P_00001.png"}),
        (["P_00001.webm", "P_00001.png", "P_00001.json"], {"P_00001.webm: P_00001.json P_00001.png"}),
        (["P_00001.png", "P_00001-audio.mp4"], {"P_00001.png: P_00001-audio.mp4"}),
        (["P_00001-audio.mp4"], {"P_00001-audio.mp4"}),
        (["P_00001.mp4", "P_00002.png", "P_00002-audio.mp4"], {"P_00001.mp4", "P_00002.png: P_00002-audio.mp4"}),
        (["clip.mp4", "clip.png"], {"clip.mp4", "clip.png"}),
        (["P_00001.mp4", "P_00001.gif", "P_00001.png"], {"P_00001.gif+P_00001.mp4: P_00001.png"}),
        (["ComfyUI_00001_.png", "ComfyUI_00001_.mp4"], {"ComfyUI_00001_.png", "ComfyUI_00001_.mp4"}),
    ],
)
def test_files_that_were_written_beside_a_picture_go_with_it(names: list[str], expected: set[str]) -> None:
    assert groups(*names) == expected


NAMES = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["x", "P_00001", "P_00001-audio", "x.png", ".x"]),
        st.sampled_from(["", ".png", ".mp4", ".gif", ".txt", ".json", ".json.txt"]),
    ),
)


@given(st.sets(NAMES, min_size=1))
def test_groups_divide_a_folder_whichever_file_is_asked_about_first(names: set[str]) -> None:
    listed = sorted(name.encode() for name in names)
    seen = [Companions(listed).group_of(place) for place in range(len(listed))]
    for place, group in enumerate(seen):
        assert place in group.places
        assert group.mains
        assert len(set(group.places)) == len(group.places)
        assert all(seen[member] == group for member in group.places)
