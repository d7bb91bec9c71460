"""Which suites there are: the files of conf/suites and of a user's folders. Adding a suite is adding a file."""

import difflib
from collections.abc import Sequence
from pathlib import Path

from qi2.core.errors import QI2Error
from qi2.evaluation.suites.suite import Suite, load_suite

FOLDER = Path("conf") / "suites"
ENDINGS = (".yaml", ".yml", ".json")


def suite_files(folders: Sequence[Path] = ()) -> dict[str, Path]:
    """Suite name to file over conf/suites and ``folders``; a suite is named after its file's stem."""
    found: dict[str, Path] = {}
    for folder in (FOLDER, *folders):
        for path in sorted(folder.glob("*")) if folder.is_dir() else ():
            if path.suffix not in ENDINGS:
                continue
            if path.stem in found:
                raise QI2Error(f"two suites are called {path.stem}: {found[path.stem]} and {path}; rename one")
            found[path.stem] = path
    return found


def find_suite(name: str, folders: Sequence[Path] = ()) -> Suite:
    """The suite of a name, or of a file; raises QI2Error that names the nearest known one."""
    if Path(name).suffix in ENDINGS:
        return load_suite(Path(name))
    files = suite_files(folders)
    if name not in files:
        near = difflib.get_close_matches(name, files, n=1, cutoff=0.0)
        advice = f"did you mean {near[0]}?" if near else f"{FOLDER} has none; give a file"
        raise QI2Error(f"there is no suite {name!r}; {advice}")
    suite = load_suite(files[name])
    if suite.name != name:
        raise QI2Error(f"{files[name]}: its name is {suite.name!r}; call it {name}, as its file")
    return suite
