"""``qi2 flywheel``: the signals, the ways in for users' feedback, and the page on which people review candidates."""

import argparse
import json
from collections import Counter
from pathlib import Path

from qi2.cli import rounds
from qi2.cli.feedback import STORE, opened


def signals(args: argparse.Namespace) -> None:
    """qi2 flywheel signals --store FOLDER [--json]"""
    store = opened(args.store)
    found = [signal for signal in store.all(args.version) if args.source in ("", signal.source)]
    if args.json:
        for signal in found:
            print(json.dumps({"id": signal.id, **json.loads(signal.to_json())}, ensure_ascii=False))
        return
    print(f"{args.store}: version {store.version if args.version is None else args.version}, {len(found)} failures, digest {store.digest(args.version)[:12]}")
    print(f"{len(store.praised(args.version))} pictures that people called good; {len(store.tombstones())} deleted")
    for (source, task, kind), count in sorted(Counter((one.source, one.task, one.kind) for one in found).items()):
        print(f"{source:<12} {task:<5} {kind:<24} {count:>6}")
    held, asked = sum(one.heldout for one in found), sum(one.consent == "diagnosis" for one in found)
    print(f"{sum(one.trainable for one in found)} may enter training; {held} are held out, {asked} are for diagnosis only")
    for signal in found[: args.list]:
        print(f"{signal.id[:12]} {signal.source:<10} {signal.model:<10} {signal.kind:<16} {_line(signal.prompt)}")


def _line(text: str) -> str:
    """A stranger's text on one line of a terminal, without what would steer it."""
    return "".join(character if character.isprintable() else " " for character in text)[:100]


def intake(args: argparse.Namespace) -> None:
    """qi2 flywheel intake --store FOLDER"""
    from qi2.flywheel.intake.web import IntakeServer, RateLimit
    from qi2.flywheel.store import SignalStore

    server = IntakeServer(SignalStore(args.store), args.host, args.port, args.origin, RateLimit(args.per_minute))
    print(f"feedback goes to {args.store}; POST /feedback with the token {server.token}")
    print(f"a page with a form is at {server.address()} (Ctrl-C ends)", flush=True)
    server.serve_until_told()


def review(args: argparse.Namespace) -> None:
    """qi2 flywheel review SCALE"""
    from qi2.flywheel.review.queue import ReviewQueue, queue_of
    from qi2.flywheel.review.web import ReviewServer

    queue = ReviewQueue(args.queue) if args.queue else queue_of(rounds.HOME, args.scale)
    if args.mode:
        batches = queue.set_mode(args.mode, by=args.by, share=args.share, threshold=args.threshold, seed=args.seed)
        print(f"mode {args.mode} for what was undecided of {', '.join(batches) or 'nothing: later rounds have the mode of flywheel.review'}")
    progress = queue.progress()
    print(f"{queue.folder}: {progress['left']} of {progress['total']} candidates are to be looked at; mode {progress['mode']}")
    if progress["left"] and not args.status:
        server = ReviewServer(queue, args.host, args.port, args.origin, args.by)
        print(f"review at {server.address()} (Ctrl-C ends)", flush=True)
        server.serve_until_told()


def add_commands(commands: "argparse._SubParsersAction") -> None:
    """The parsers of this file's commands."""
    group = commands.add_parser("flywheel", help="failures: signals, feedback intake, attribution, review, rounds").add_subparsers(
        required=True, metavar="COMMAND"
    )
    one = group.add_parser("signals", help="what is in the store")
    one.add_argument("--version", type=int, help="as of an earlier version")
    one.add_argument("--source", default="", help="only this one: evaluation, mining, votes, feedback, training")
    one.add_argument("--list", type=int, default=0, metavar="N", help="also the first N")
    one.add_argument("--json", action="store_true", help="every signal as a line of JSON")
    one.set_defaults(run=signals)
    two = group.add_parser("intake", help="take users' feedback over HTTP")
    two.add_argument("--per-minute", type=float, default=60.0, help="requests of one address")
    two.set_defaults(run=intake)
    _place(two, 8018)
    three = group.add_parser("review", help="the page on which candidates are accepted, edited or rejected")
    three.add_argument("scale", nargs="?", default="tiny", help="whose candidates; every scale has its own")
    three.add_argument("--queue", type=Path, help="another folder of candidates than flywheel/SCALE/queue")
    three.add_argument("--by", default="reviewer", help="who looks, recorded with every decision")
    three.add_argument("--mode", choices=("person", "sampled", "waived"), help="who decides what is not decided now: recorded; later rounds have their own")
    three.add_argument("--share", type=float, default=0.1, help="of sampled: how many a person looks at")
    three.add_argument("--threshold", type=float, default=0.95, help="of sampled: the sample's acceptance from which the rest is accepted")
    three.add_argument("--seed", type=int, default=0, help="of sampled: which ones")
    three.add_argument("--status", action="store_true", help="only say how far it is")
    three.set_defaults(run=review)
    _place(three, 8019)
    rounds.add_to(group)
    for parser in (one, two):
        parser.add_argument("--store", type=Path, default=STORE)


def _place(parser: argparse.ArgumentParser, port: int) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="another address than loopback lets in those who have the invitation or token")
    parser.add_argument("--port", type=int, default=port)
    parser.add_argument("--origin", default="", help="public address of a proxy before it, e.g. https://review.example.org")
