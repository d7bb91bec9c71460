"""``qi2 feedback``: tell what is wrong with a picture, take many such reports from a file, change what is allowed, and have all of one's own deleted."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qi2.core.errors import QI2Error

if TYPE_CHECKING:
    from qi2.flywheel.review.queue import ReviewQueue
    from qi2.flywheel.store import SignalStore

FILE = "; of a FILE.jsonl: for lines that say none"
STORE = Path("flywheel/signals")
TRAINED = "accepted, sft, rlhf, distill, enhancer, evaluate"  # what a round that takes the data anew repeats
TAUGHT = "enhancer_sft, enhancer, evaluate"


def feedback(args: argparse.Namespace) -> None:
    """qi2 feedback IMAGE --prompt TEXT --verdict bad|good | FILE.jsonl | consent SUBJECT training|diagnosis | forget SUBJECT"""
    first, *rest = args.what
    if first == "forget":
        _forget(args, rest)
    elif first == "consent":
        _consent(args, rest)
    elif rest:
        raise QI2Error(f"one picture at a time, not {len(args.what)}; write a JSONL file for more (docs/signals.md)")
    elif first.endswith(".jsonl"):
        _lines(args, Path(first))
    else:
        _one(args, Path(first))


def _one(args: argparse.Namespace, path: Path) -> None:
    from qi2.flywheel.intake.feedback import Feedback, take
    from qi2.flywheel.intake.lines import read_picture
    from qi2.flywheel.store import SignalStore

    if not args.prompt or not args.verdict:
        raise QI2Error('say --prompt "..." and --verdict bad|good: qi2 feedback IMAGE.png --prompt "..." --verdict bad --why "..."')
    picture, *references = [read_picture(name, str(name)) for name in (path, *args.reference)]
    said = Feedback(args.prompt, args.verdict, args.why, args.consent or _ask(sys.stdin.isatty(), input), args.subject, args.model, args.kind)
    store = SignalStore(args.store)
    receipt = take(store, said, picture, references, {"way": "command"})
    if receipt.deleted:
        raise QI2Error("this was deleted before and is not taken again")
    known = store.find(receipt.id)
    for_what = known.consent if known else said.consent  # of what was told before, the consent that was given then
    print(f"{'stored' if receipt.new else 'known'} {receipt.id}, for {for_what}; delete it with: qi2 feedback forget {said.subject or receipt.id}")


def _ask(asked: bool, answer: Callable[[str], str]) -> str:
    """The person's consent; whoever cannot be asked has given the least."""
    from qi2.flywheel.intake.feedback import QUESTION
    from qi2.flywheel.signals import DIAGNOSIS, TRAINING

    return TRAINING if asked and answer(f"{QUESTION} [y/N] ").strip().lower() in ("y", "yes") else DIAGNOSIS


def _lines(args: argparse.Namespace, path: Path) -> None:
    from qi2.flywheel.intake.lines import read_lines
    from qi2.flywheel.store import SignalStore

    if given := [f"--{name}" for name in ("prompt", "verdict", "why", "reference") if getattr(args, name)]:
        raise QI2Error(f"{given[0]} is said of one picture; beside a file every line says its own, so leave {', '.join(given)} out")
    defaults = {name: getattr(args, name) for name in ("consent", "subject", "model", "kind") if getattr(args, name)}
    found = read_lines(path, SignalStore(args.store), defaults)
    for reason in found.bad:
        print(reason, file=sys.stderr)
    print(f"{found.new} new, {found.known} known before, {len(found.bad)} refused")
    if found.bad:
        raise QI2Error(f"{len(found.bad)} lines of {path} were refused; mend them and give the file again: what was taken is not taken twice")


def _forget(args: argparse.Namespace, rest: Sequence[str]) -> None:
    """Candidates first: they are found by their signals. Cut off in between, the same command finishes it."""
    from qi2.flywheel import forgetting
    from qi2.flywheel.review.queue import ReviewQueue

    if len(rest) != 1:
        raise QI2Error("say whose: qi2 feedback forget SUBJECT (or the id of one signal)")
    store, why, homes = opened(args.store), args.why or "asked by the person", forgetting.homes(args.store.parent)
    own = store.ids_of(rest[0])
    ids = own or [rest[0]]
    places = dict.fromkeys([*(home / "queue" for home in homes), *([args.queue] if args.queue else [])])
    queues = {place: ReviewQueue(place) for place in places if (place / "queue.sqlite").exists()}
    made = sum(queue.forget(ids) for queue in queues.values())
    count = store.delete(subject=rest[0], why=why) if own else store.delete(id=rest[0], why=why)
    changed = {home: forgetting.forget(home, store.all()) for home in homes}
    print(f"{count} signals and {made} candidates made from them are erased, and what {sum(map(len, changed.values()))} files of rounds said of them")
    for home in homes:
        _again(home, queues.get(home / "queue"), changed[home])
    if not count and not made and not any(changed.values()):
        raise QI2Error(f"nothing of {rest[0]} is in {args.store}")


def opened(folder: Path) -> "SignalStore":
    """A store that is there, for whoever only reads or changes it. Raises QI2Error for any other folder, and leaves it as it is."""
    from qi2.flywheel.store import SignalStore

    if not (folder / "signals.sqlite").is_file():
        raise QI2Error(f"{folder} is no store of signals; give its folder with --store, or begin one with `qi2 feedback`, `qi2 flywheel mine` or a round")
    return SignalStore(folder)


def _again(home: Path, queue: "ReviewQueue | None", changed: Sequence[Path]) -> None:
    """Say which stages of a scale have to run again, since no deletion reaches what was published and trained."""
    from qi2.flywheel.tracks.pretraining import stale

    scale = home.name
    if queue and stale(queue, home / "accepted"):
        begin = f"prefect deployment run flywheel/prod -p scale={scale}"
        print(f"{scale}: {home / 'accepted'} has samples made from them; the next round takes it anew and repeats {TRAINED}: {begin}")
    if any(path.parent == home / "prompts" for path in changed):
        print(f"{scale}: the enhancer has learnt from them; repeat {TAUGHT}: make run SCALE={scale}")


def _consent(args: argparse.Namespace, rest: Sequence[str]) -> None:
    from qi2.flywheel.signals import DIAGNOSIS

    if len(rest) != 2:
        raise QI2Error("say whose and what: qi2 feedback consent SUBJECT training|diagnosis (or the id of one signal)")
    whose, given = rest
    store, why = opened(args.store), args.why or "asked by the person"
    own = store.ids_of(whose)
    if not own and store.find(whose) is None:
        raise QI2Error(f"nothing of {whose} is in {args.store}")
    count = store.consent(given, subject=whose, why=why) if own else store.consent(given, id=whose, why=why)
    print(f"{count} of {len(own) or 1} signals are for {given} from version {store.version} on; earlier versions stay as they were")
    if count and given == DIAGNOSIS:
        print("the next round takes its enhancer examples from what is allowed then; weights that were trained before stay what they are: train again")


def add_commands(commands: "argparse._SubParsersAction") -> None:
    """The parser of this file's command."""
    parser = commands.add_parser(
        "feedback", help="say what is wrong with a picture; take a JSONL file of such reports; change a person's consent; forget a person's"
    )
    parser.add_argument("what", nargs="+", metavar="IMAGE", help="a picture; or FILE.jsonl; or consent SUBJECT training|diagnosis; or forget SUBJECT")
    parser.add_argument("--prompt", default="", help="what it was made from")
    parser.add_argument("--verdict", choices=("bad", "good"))
    parser.add_argument("--why", default="", help="what is wrong, in your words")
    parser.add_argument("--reference", type=Path, nargs="*", default=[], help="pictures that an edit started from")
    parser.add_argument("--consent", choices=("diagnosis", "training"), help=f"what may be done with it; asked at a terminal, else diagnosis{FILE}")
    parser.add_argument("--subject", default="", help=f"an opaque id of yours, by which all that you gave can be deleted{FILE}")
    parser.add_argument("--model", default="unknown", help=f"which model made it{FILE}")
    parser.add_argument("--kind", default="user", help=f"a category of your own{FILE}")
    parser.add_argument("--store", type=Path, default=STORE, help="the folder of signals")
    parser.add_argument("--queue", type=Path, help="of forget: one more review queue, beside those of all scales, from which what was made of it goes too")
    parser.set_defaults(run=feedback)
