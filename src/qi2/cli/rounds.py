"""``qi2 flywheel mine``, ``attribute`` and ``rounds``: bad cases among training prompts, which track failures belong to, and what rounds changed."""

import argparse
import json
from pathlib import Path

from qi2.cli.feedback import STORE, opened
from qi2.core.errors import QI2Error

HOME = STORE.parent


def mine(args: argparse.Namespace) -> None:
    """qi2 flywheel mine RUNS --prompts N --store FOLDER"""
    from qi2.config import load
    from qi2.flywheel.collect.mined import mine_run, sentence
    from qi2.flywheel.store import SignalStore
    from qi2.recipe import Recipe, scale_layers

    budget = [f"flywheel.mining.{name}={value}" for name, value in (("prompts", args.prompts), ("pictures", args.pictures)) if value]
    recipe, store = load(Recipe, scale_layers(Path("conf"), args.scale or args.runs.name), [*args.set, *budget]), SignalStore(args.store)
    mined = mine_run(recipe, args.runs, store, args.number, args.stage)
    facts = mined.to_json() | {"new": store.add(mined.signals)}
    print(json.dumps(facts) if args.json else sentence(facts))


def attribute(args: argparse.Namespace) -> None:
    """qi2 flywheel attribute RUNS --store FOLDER"""
    from qi2.config import load
    from qi2.flywheel.attribution.cases import distinct, from_signals
    from qi2.flywheel.attribution.diagnose import diagnose
    from qi2.recipe import Recipe, scale_layers

    overrides = [f"flywheel.probes.model={args.stage}"] if args.stage else []
    recipe = load(Recipe, scale_layers(Path("conf"), args.scale or args.runs.name), [*overrides, *args.set])
    store = opened(args.store)
    found = [signal for signal in store.all() if not args.stage or signal.model == args.stage]
    diagnosis = diagnose(recipe, args.runs, from_signals(found, store.picture, recipe.flywheel.probes.most), failing=distinct(found))
    for reason, count in sorted(diagnosis.reasons().items(), key=lambda pair: -pair[1]):
        print(f"{count:>5}  {reason}")
    print(", ".join(f"{track} {n}" for track, n in diagnosis.counts().items()))
    if args.out:
        diagnosis.write(args.out)
        print(args.out)


def rounds(args: argparse.Namespace) -> None:
    """qi2 flywheel rounds SCALE"""
    folder = HOME / args.scale / "rounds"
    found = sorted(folder.glob("*/state.json"))
    if not found:
        raise QI2Error(f"no round under {folder}; begin one with `prefect deployment run flywheel/prod -p scale={args.scale}`")
    for path in found:
        state = json.loads(path.read_text())
        print(f"{path.parent.name} {state['phase']:<8} {state['message']}")
    page = found[-1].with_name("report.md")
    if page.exists():
        print(f"\n{page.read_text()}")


def add_to(group: "argparse._SubParsersAction") -> None:
    """The parsers of this file's commands, in the group of `qi2 flywheel`."""
    first = group.add_parser("mine", help="draw training prompts with a run's model and keep the bad cases as signals")
    first.add_argument("runs", type=Path, help="runs/SCALE, with vae, standins, the chain's models and the rewards")
    first.add_argument("--store", type=Path, default=STORE, help="the folder of signals")
    first.add_argument("--scale", default="", help="whose configuration; the folder's name by default")
    first.add_argument("--stage", default="", help="the model that draws: sft, rlhf, distill; the one that a round tests by default")
    first.add_argument("--prompts", type=int, default=0, help="how many; flywheel.mining.prompts by default")
    first.add_argument("--pictures", type=int, default=0, help="of each; flywheel.mining.pictures by default")
    first.add_argument("--number", type=int, default=0, help="other prompts and noise for every number; a round uses its own, from 1")
    first.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    first.add_argument("--json", action="store_true", help="what was found and what it cost as JSON")
    first.set_defaults(run=mine)
    one = group.add_parser("attribute", help="test failures with a run's models and say which track they belong to")
    one.add_argument("runs", type=Path, help="runs/SCALE, with vae, standins and the chain's models")
    one.add_argument("--store", type=Path, default=STORE, help="the folder of signals")
    one.add_argument("--scale", default="", help="whose configuration; the folder's name by default")
    one.add_argument("--stage", default="", help="only failures of this model, tested with it: sft, rlhf, distill")
    one.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    one.add_argument("--out", type=Path, help="every decision with its evidence as a line of JSON")
    one.set_defaults(run=attribute)
    two = group.add_parser("rounds", help="the rounds of a scale, and the report of the last one")
    two.add_argument("scale", nargs="?", default="tiny")
    two.set_defaults(run=rounds)
