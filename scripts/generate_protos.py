"""Writes `mediasync/v1/` from `protos/`; with `--check`, fails if what is committed differs.

The generated code is committed so that `pip install .` needs no compiler. Run it through `make protos`.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path("mediasync") / "v1"


def generate(target: Path) -> None:
    """Runs protoc over every proto, into `target`/mediasync/v1."""
    (target / PACKAGE).mkdir(parents=True, exist_ok=True)
    protos = sorted(str(p.relative_to(ROOT / "protos")) for p in (ROOT / "protos").rglob("*.proto"))
    # protoc finds its mypy plugins on PATH; they are installed beside this interpreter.
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", "protos"]
    command += [f"--{kind}_out={target}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
    subprocess.run([*command, *protos], cwd=ROOT, env=environment, check=True, stderr=subprocess.DEVNULL)
    (target / PACKAGE / "__init__.py").write_text('"""Generated from `protos/mediasync/v1`; see `make protos`."""\n')


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail if the committed code is not what protos/ gives")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        generate(fresh)
        names = sorted(p.name for p in (fresh / PACKAGE).iterdir())
        committed = sorted(p.name for p in (ROOT / PACKAGE).glob("*") if p.suffix in {".py", ".pyi"})
        if check:
            stale = set(names) ^ set(committed)
            stale |= set(filecmp.cmpfiles(fresh / PACKAGE, ROOT / PACKAGE, set(names) & set(committed), shallow=False)[1])
            if stale:
                print(f"mediasync/v1 is not what protos/ gives ({', '.join(sorted(stale))}): run `make protos`")
                return 1
            print(f"mediasync/v1 is fresh ({len(names)} files)")
            return 0
        shutil.rmtree(ROOT / PACKAGE, ignore_errors=True)
        shutil.copytree(fresh / PACKAGE, ROOT / PACKAGE)
        print(f"wrote {len(names)} files to mediasync/v1")
    return 0


if __name__ == "__main__":
    sys.exit(main())
