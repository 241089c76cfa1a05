"""The commands of the POSIX engine: fixed text for sh, dash and ash, with GNU's tools or busybox's (`mediasync.sources.posix` has the
other end).

One shell stays for the length of a connection, reads requests from stdin, one a line, and answers on stdout. No text from a user or
a source is ever part of a command (invariant I7): a name arrives as a word that `printf %b` decodes, and is handed on NUL-separated
on the stdin of `xargs -0`, or as the value of a quoted variable that begins with `./`.

Words of a request are separated by spaces and hold only characters that mean nothing to `read` (`mediasync.sources.posix.wire.word`
makes them). Answers are of three kinds:

- a listing: records `<path>//<fields>\\n`. No path holds two slashes in a row, so that a name with any bytes in it cannot be taken for a
  field. A record without a path is about the listing itself: `//@<clock>`, `//!` (something could not be looked at), `//?` (the root is
  not there), `//.` (its end). A `^` stands before the fields of a folder that was asked for;
- a line of words, or names that each end in NUL;
- a file: a line that says how it was found, its bytes, and a trailer that begins with the number that was drawn for the connection. A
  file that shrinks or grows under the read moves the trailer, and so is noticed wherever the trailer comes.
"""

from __future__ import annotations

from mediasync.sources import filters

MARKER = b"\0mediasync-posix "

MOST_AT_ONCE = 7
"""How many files `many` takes: a shell has that many numbers of one digit for open files."""

FIELDS_OF_STAT = 8
FIELDS_OF_AGED_STAT = 12
FIELDS_OF_FIND = 5
FIELDS_OF_UNMOVED = 1

_STAT = "%s|%i|%Y|%y|%Z|%z|%f|%h"
"""Size, inode, mtime and ctime twice (whole seconds, and a date that has the nanoseconds), mode in hexadecimal, links."""

_AGED_STAT = f"{_STAT}|%W|%w|%X|%x"
"""The same with birth and access. busybox knows no birth and says its letters instead; GNU's find knows none either."""

_FIND = "%s|%i|%T@|%C@|%y"


def _pattern(text: bytes) -> str:
    """A `find` pattern, in double quotes, that matches just `text`."""
    return "".join(f"[{c}]" if c in "*?[$" else c for c in text.decode("ascii"))


def _hidden() -> str:
    """The folders that nobody looks into, as an expression of `find`. The tables are ours; nothing else goes in here."""
    patterns = [_pattern(prefix) + "*" for prefix in filters.HIDDEN_PREFIXES] + [_pattern(name) for name in filters.FOREIGN_NAMES]
    return " -o ".join(f'-name "{pattern}"' for pattern in patterns)


# `find` gets its starting points as arguments of an inner shell. They are looked at by `stat -L` first, because they may be links that the
# user named; `find` reports what is below them. DEPTH and SINCE are digits, and come in the environment.
_GNU_TREE = f"""
stat -L -c "%n//^{_STAT}" "$@" 2>/dev/null
if [ "$SINCE" ]; then
  find -H "$@" -mindepth 1 -maxdepth "$DEPTH" -type d "(" {_hidden()} ")" -printf "%p//{_FIND}\\n" -prune -o -type f ! -newerct "@$SINCE" -printf "%p//%s\\n" -o -printf "%p//{_FIND}\\n"
else
  find -H "$@" -mindepth 1 -maxdepth "$DEPTH" -printf "%p//{_FIND}\\n" -type d "(" {_hidden()} ")" -prune
fi || echo "//!"
"""  # noqa: E501 - one line is one command


def _stat_tree(form: str) -> str:
    return f"""
stat -L -c "%n//^{_STAT}" "$@" 2>/dev/null
exec 3>&1
e=$({{ {{ find -H "$@" -mindepth 1 -maxdepth "$DEPTH" -print0 -type d "(" {_hidden()} ")" -prune || echo e >&4; }} | xargs -0 -r stat -c "%n//{form}" >&3 || echo e >&4; }} 4>&1)
[ -z "$e" ] || echo "//!"
"""  # noqa: E501


# What each of some paths is: a directory that can be listed (r) or not (u), or gone (g), or behind a folder that cannot be entered (u).
_CHECK = """
for f; do
  if [ -d "$f" ]; then
    if (cd "$f" && find . -maxdepth 1) >/dev/null 2>&1; then echo "//r"; else echo "//u"; fi
  else
    p=$f
    while :; do case $p in */*) p=${p%/*};; *) p=.; break;; esac; [ -d "$p" ] && break; done
    if [ -x "$p" ]; then echo "//g"; else echo "//u"; fi
  fi
done
"""

# What is where each of some links leads, then its real path as a record of its own. One that leads nowhere gives nothing.
_LINKS = f"""
for f; do
  t=$(readlink -f "$f" && echo x) && stat -L -c "%n//{_STAT}" "$f" && t=${{t%x}} && printf "%s//=\\n" "${{t%?}}"
done
"""

_PROGRAM = f"""
LC_ALL=C TZ=UTC0 IFS=" "
export LC_ALL TZ
unset CDPATH POSIXLY_CORRECT BLOCK_SIZE BLOCKSIZE DF_BLOCK_SIZE
q=/proc/self/fd/3
nl=$(printf "\\nx") nl=${{nl%x}}

dec() {{ case $1 in *\\\\*) v=$(printf %bx "$1"); v=${{v%x}};; *) v=$1;; esac; }}
take() {{ while read -r l && [ "$l" ]; do printf "%b\\0" "$l"; done; }}
has() {{ command -v "$1" >/dev/null 2>&1; }}
clock() {{ date +%s.%N; }}

hello() {{
  read -r n || exit
  printf "\\0mediasync-posix %s\\n" "$n"
  R=
  while read -r l && [ "$l" ]; do
    [ "$R" ] && continue
    dec "$l"
    case $v in "~") r=$HOME;; "~/"*) r=$HOME/${{v#??}};; /*) r=$v;; *) r=$HOME/$v;; esac
    if cd -P "$r" 2>/dev/null && [ -r . ] && [ -x . ]; then R=$r; continue; fi
    p=$r
    while p=${{p%/*}}; do [ -z "$p" ] && break; [ -d "$p" ] && [ -r "$p" ] && break; done
    if [ -d "$r" ]; then m=denied; elif [ -e "$r" ]; then m=file; elif [ -x "${{p:-/}}" ]; then m=missing; else m=denied; fi
    printf "%s\\n%s\\0%s\\0" "$m" "$r" "${{p:-/}}"
    c=0
    for f in "$p"/*; do
      [ -e "$f" ] || continue
      c=$((c+1)); [ "$c" -le 12 ] && printf "%s\\0" "${{f##*/}}"
    done
    printf "\\0%s\\n" "$c"
  done
  t=
  find . -maxdepth 0 -printf x >/dev/null 2>&1 && find . -maxdepth 0 -newerct @1 >/dev/null 2>&1 && t="$t gnu"
  find -H . -maxdepth 0 -print0 >/dev/null 2>&1 && t="$t find"
  echo . | xargs -0 -r true >/dev/null 2>&1 && t="$t xargs"
  stat -L -c %y . >/dev/null 2>&1 && t="$t stat"
  [ "$(stat -L -c %F $q 3</dev/null 2>/dev/null)" = "character special file" ] && t="$t proc"
  [ "$(dd if=/dev/zero bs=64 iflag=skip_bytes,count_bytes,fullblock skip=7 count=70 2>/dev/null | wc -c)" -eq 70 ] && t="$t dd"
  has sha256sum && t="$t sha256sum"
  has readlink && t="$t readlink"
  [ "$R" ] && cd -P "$R" && P=$PWD
  printf "ready%s\\n%s\\0%s\\0%s\\0" "$t" "$R" "$P" "$(uname -srm 2>/dev/null)"
  clock
  [ "$R" ] || exit
  case $t in *" proc"*) ;; *) q=;; esac
  case $t in *" dd"*) dd=1;; *) dd=;; esac
  case $t in *" gnu"*) tree=$1;; *) tree=$2;; esac
  ages=$3
}}

home() {{ cd -P "$R" 2>/dev/null && P=$PWD && [ -r . ]; }}

tree() {{
  DEPTH=$1 SINCE=${{2#-}}
  export DEPTH SINCE
  t=$tree
  [ "$3" ] && t=$ages
  if home; then
    printf "//@"; clock
    take | xargs -0 -r sh -c "$t" sh
  else
    take >/dev/null
    echo "//?"
  fi
  echo "//."
}}

each() {{
  if home; then
    printf "//@"; clock
    take | xargs -0 -r sh -c "$1" sh 2>/dev/null
  else
    take >/dev/null
    echo "//?"
  fi
  echo "//."
}}

folders() {{
  if home; then
    for f in *; do [ -d "$f" ] && printf "%s\\0" "$f"; done
    printf "\\0"
  else
    printf "/\\0\\0"
  fi
}}

into() {{
  [ -d "$1" ] && [ -x "$1" ] && cd -P "$1" 2>/dev/null && return
  w=$(printf "%s\\0" "$1" | xargs -0 sh -c "$check" sh)
  if [ "$w" = //g ]; then w=V; else w="U Permission denied"; fi
  return 1
}}

# Goes to a folder: $1 says which links may be followed, $2 a folder that the user named (which may be one itself), $3 what is below it.
enter() {{
  links=$1 w=
  home || {{ w="U Permission denied"; return; }}
  T=$P
  dec "$2"
  into "$v" || return
  B=$PWD
  dec "$3"
  into "$v" || return
  case $v in .) e=$B;; *) e=${{B%/}}/${{v#./}};; esac
  [ "$PWD" = "$e" ] && return
  [ "$links" = 2 ] && case $PWD in "$T"|"${{T%/}}"/*|"$B"|"${{B%/}}"/*) return;; esac
  w=C
}}

# Whether the file $1 may be opened: z is empty then, else what to answer.
look() {{
  dec "$1"; f=$v z=$w
  [ "$z" ] && return
  if [ -L "$f" ] && [ "$links" = 0 ]; then z=C
  elif [ -f "$f" ]; then [ -r "$f" ] || z="U Permission denied"
  elif [ -e "$f" ] || [ -L "$f" ]; then z=C
  elif [ -x . ]; then z=V
  else z="U Permission denied"
  fi
}}

# The open file, or its path where there is no /proc; whether it is what was asked for, and not outside by way of a link.
same() {{
  o=${{q:-$f}}
  s=$(stat -L -c "{_STAT}" "$o") || return
  if [ -L "$f" ]; then
    t=$(readlink -f "$f") || return
    case $t in "${{T%/}}"/*|"${{B%/}}"/*) ;; *) return 1;; esac
  fi
  case $s in "$1|"???????????????????"$2"*) return 0;; esac
  return 1
}}

bytes() {{
  if [ "$dd" ]; then dd if="$o" bs=262144 iflag=skip_bytes,count_bytes,fullblock skip="$1" count="$2"
  elif [ "$1" = 0 ]; then head -c "$2" "$o"
  else tail -c "+$(($1+1))" "$o" | head -c "$2"
  fi
}}

trailer() {{ printf "%s %s " "$n" "$1"; stat -L -c "{_STAT}" "$o" || echo; }}
differs() {{ if [ "$s" ]; then printf "C %s\\n" "$s"; else echo C; fi; }}

send() {{
  same "$1" "$2" || {{ differs; return; }}
  i=0
  if [ "$3" != 0 ]; then h=$(bytes 0 "$3" | sha256sum); case $h in "$4"*) i=$3;; esac; fi
  printf "O %s %s\\n" "$i" "$s"
  r=0
  [ "$((${{s%%|*}}-i))" = 0 ] || {{ bytes "$i" "$((${{s%%|*}}-i))"; r=$?; }}
  trailer "$r"
}}

# Several small files, each three words as for `send`, at the cost of one: all are open at the same time. One answer for all if each is what
# was asked for, else one for each.
many() {{
  all=$* k=3 bad=
  g3=/dev/null g4=/dev/null g5=/dev/null g6=/dev/null g7=/dev/null g8=/dev/null g9=/dev/null
  while [ "$1" ]; do
    look "$1"
    if [ "$z" ] || [ -L "$f" ]; then bad=1; break; fi
    case $k in 3) g3=$f;; 4) g4=$f;; 5) g5=$f;; 6) g6=$f;; 7) g7=$f;; 8) g8=$f;; 9) g9=$f;; esac
    k=$((k+1))
    shift 3
  done
  opened=
  [ "$bad" ] || {{ opened=1; group $all; }} 2>/dev/null 3<"$g3" 4<"$g4" 5<"$g5" 6<"$g6" 7<"$g7" 8<"$g8" 9<"$g9"
  [ "$opened" ] && [ -z "$bad" ] && return
  set -- $all
  while [ "$1" ]; do file send "$1" "$2" "$3" 0 -; shift 3; done
}}

group() {{
  p=
  i=3
  while [ "$i" -lt "$k" ]; do p="$p /proc/self/fd/$i"; i=$((i+1)); done
  s=$(stat -L -c "{_STAT}" $p)
  l=$s
  while [ "$1" ]; do
    case $l in "$2|"???????????????????"$3"*) ;; *) bad=1; return;; esac
    l=${{l#*"$nl"}}
    shift 3
  done
  printf "M\n%s\n" "$s"
  cat $p
  printf "%s %s " "$n" "$?"
  stat -L -c "{_STAT}" $p
}}

# $3...: offsets and lengths.
peek() {{
  same "$1" "$2" || {{ differs; return; }}
  printf "O 0 %s\\n" "$s"
  shift 2
  r=0
  while [ "$1" ]; do bytes "$1" "$2"; r=$?; shift 2; done
  trailer "$r"
}}

sum() {{
  same "$1" "$2" || {{ differs; return; }}
  printf "O 0 %s\\n" "$s"
  sha256sum <"$o"
  trailer "$?"
}}

# Looked at, hashed, looked at again, by what is open and by its name; then removed.
remove() {{
  same "$1" "$2" || {{ differs; return; }}
  h=$(sha256sum <"$o") || {{ echo U; return; }}
  case $h in "$3"*) ;; *) echo C; return;; esac
  if [ "$(stat -L -c "{_STAT}" "$o")" = "$s" ] && [ ! -L "$f" ] && [ "$(stat -c "{_STAT}" "$f")" = "$s" ]; then
    if m=$(rm -f "$f" 2>&1); then echo D; else echo "R ${{m##*: }}"; fi
  else
    echo C
  fi
}}

# Several files, each four words as for `remove`, that go together or not at all: all are open at the same time. One answer for each.
together() {{
  all=$* k=3 opened=
  g3=/dev/null g4=/dev/null g5=/dev/null g6=/dev/null g7=/dev/null g8=/dev/null g9=/dev/null
  while [ "$1" ]; do
    look "$1"
    eval "z$k=\\$z"
    [ "$z" ] && f=/dev/null
    case $k in 3) g3=$f;; 4) g4=$f;; 5) g5=$f;; 6) g6=$f;; 7) g7=$f;; 8) g8=$f;; 9) g9=$f;; esac
    k=$((k+1))
    shift 4
  done
  {{ opened=1; removes $all; }} 2>/dev/null 3<"$g3" 4<"$g4" 5<"$g5" 6<"$g6" 7<"$g7" 8<"$g8" 9<"$g9"
  [ "$opened" ] && return
  i=3 bad=
  while [ "$i" -lt "$k" ]; do
    eval "z=\\$z$i f=\\$g$i"
    if [ -z "$z" ]; then
      m=$( (exec 3<"$f") 2>&1)
      if [ "$m" ]; then z="U ${{m##*: }}"; elif [ "$bad" ] || [ "$((i+1))" -lt "$k" ]; then z=K; else z=U; fi
    fi
    [ "$z" = K ] || bad=1
    printf "%s\n" "$z"
    i=$((i+1))
  done
}}

removes() {{
  i=3 bad=
  while [ "$1" ]; do
    eval "z=\\$z$i f=\\$g$i"
    s=
    if [ -z "$z" ]; then
      o=$f; [ "$q" ] && o=/proc/self/fd/$i
      s=$(stat -L -c "{_STAT}" "$o")
      case $s in
        "$2|"???????????????????"$3"*)
          if h=$(sha256sum <"$o"); then case $h in "$4"*) ;; *) z=C;; esac; else z=U; fi;;
        *) z="C${{s:+ $s}}";;
      esac
    fi
    [ "$z" ] && bad=1
    eval "z$i=\\$z s$i=\\$s"
    i=$((i+1))
    shift 4
  done
  i=3
  while [ "$i" -lt "$k" ]; do
    eval "z=\\$z$i f=\\$g$i s=\\$s$i"
    if [ -z "$z" ]; then
      o=$f; [ "$q" ] && o=/proc/self/fd/$i
      if [ "$(stat -L -c "{_STAT}" "$o")" != "$s" ] || [ -L "$f" ] || [ "$(stat -c "{_STAT}" "$f")" != "$s" ]; then
        z=C bad=1
        [ -e "$f" ] || [ -L "$f" ] || z=V
        eval "z$i=\\$z"
      fi
    fi
    i=$((i+1))
  done
  i=3
  while [ "$i" -lt "$k" ]; do
    eval "z=\\$z$i f=\\$g$i"
    if [ -z "$z" ]; then
      if [ "$bad" ]; then z=K
      elif m=$(rm -f "$f" 2>&1); then z=D
      else z="R ${{m##*: }}" bad=1
      fi
    fi
    printf "%s\n" "$z"
    i=$((i+1))
  done
}}

# Removes an empty folder, never what a link leads to.
drop() {{
  dec "$1"
  if [ -z "$w" ] && [ ! -L "$v" ] && [ -d "$v" ] && rmdir "$v" 2>/dev/null; then echo D; else echo K; fi
}}

# $1 what to do, $2 the file, then what that takes. The compound command opens it: where that fails, nothing in it is done.
file() {{
  a=$1
  look "$2"
  [ "$z" ] && {{ echo "$z"; return; }}
  shift 2
  opened=
  {{ opened=1; "$a" "$@"; }} 2>/dev/null 3<"$f"
  [ "$opened" ] && return
  m=$( (exec 3<"$f") 2>&1)
  echo "U ${{m##*: }}"
}}

around() {{
  home && df -P -k . 2>/dev/null
  echo
  for t in busybox find tar sha256sum rsync python3; do
    has "$t" || continue
    case $t in busybox) t=$(busybox 2>&1);; *) t="$t "$("$t" --version 2>/dev/null);; esac
    printf "%s\\0" "$t"
  done
  printf "\\0"
}}
"""

_LOOP = """
while read -r c x; do
  set -f; set -- $x; set +f
  case $c in
    tree) tree "$@";;
    stat) each "$stats";;
    lstat) each "$lstats";;
    links) each "$read_links";;
    check) each "$check";;
    folders) folders;;
    enter) enter "$@";;
    many) many "$@";;
    together) together "$@";;
    drop) drop "$@";;
    send|peek|sum|remove) file "$c" "$@";;
    around) around;;
  esac
done
"""

_STATS = f'stat -L -c "%n//{_STAT}" "$@"'
_LSTATS = f'stat -c "%n//{_STAT}" "$@"'


def _quoted(text: str) -> str:
    assert "'" not in text
    return f"'{text}'"


def program() -> str:
    """What the shell is to do, in full."""
    texts = f"check={_quoted(_CHECK)}\nread_links={_quoted(_LINKS)}\n"
    texts += f"stats={_quoted(_STATS)}\nlstats={_quoted(_LSTATS)}\n"
    return f"{_PROGRAM}\n{texts}\nhello {_quoted(_GNU_TREE)} {_quoted(_stat_tree(_STAT))} {_quoted(_stat_tree(_AGED_STAT))}\n{_LOOP}"


_LOADER = 'IFS= read -r p; eval "$(printf %b "$p")"'


def posix_command() -> str:
    """The command that starts a shell on a far side, which runs the program that comes as the first line of its stdin. It reads the
    same in every login shell, as `mediasync.sources.shell.agent_command` does."""
    return f"exec sh -c {_quoted(_LOADER)}"


def posix_arguments(sh: str = "sh") -> list[str]:
    """The same for a program that is started without a login shell."""
    return [sh, "-c", _LOADER]
