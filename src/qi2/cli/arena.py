"""``qi2 arena``: blind pairs of pictures, people's and judges' votes on them, and the ranking that follows (report section 5.1)."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from PIL.Image import Image

    from qi2.arena.entrants import Field, Task
    from qi2.arena.judge import Judge, ScoreJudge, VLMJudge


def field_of(args: argparse.Namespace) -> "Field":
    """The entrants of the command line; says who was left out."""
    from qi2.arena.entrants import load

    found = load(args.sources, args.only)
    for reason in found.dropped:
        print(f"left out: {reason}")
    return found


def serve(args: argparse.Namespace) -> None:
    """qi2 arena serve SOURCE ... --votes FILE"""
    from qi2.arena.booth import Booth
    from qi2.arena.votes import Votes
    from qi2.arena.web import ArenaServer

    entrants = field_of(args)
    server = ArenaServer(Booth(entrants, Votes(args.votes), args.open_after), args.host, args.port, args.origin)
    print(f"{len(entrants.entrants)} entrants, {len(entrants.tasks)} prompts; votes go to {args.votes}")
    print(f"vote at {server.address()} (Ctrl-C ends)", flush=True)
    server.serve_until_told()


def rank(args: argparse.Namespace) -> None:
    """qi2 arena rank SOURCE ... --votes FILE"""
    from qi2.arena.board import leaderboard, lines
    from qi2.arena.votes import Votes
    from qi2.core.publish import write_file

    board = leaderboard(field_of(args), list(Votes(args.votes).rows()), args.by)
    print("\n".join(lines(board)))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        write_file(args.json, json.dumps(board.to_json(), indent=1).encode())


def judge(args: argparse.Namespace) -> None:
    """qi2 arena judge SOURCE ... --votes FILE --judge checker|reward|vlm"""
    from qi2.arena.judge import judge_pairs
    from qi2.arena.votes import Votes

    name = args.name or args.judge
    field, voter = field_of(args), JUDGES[args.judge](args)
    tally = judge_pairs(field, voter, name, Votes(args.votes), args.limit)
    print(f"{name}: {tally.asked} pairs, both orders agreed on {tally.agreed}; " + ", ".join(f"{choice} {n}" for choice, n in tally.choices.items()))
    if unread := getattr(voter, "unread", 0):
        print(f"{unread} replies were none of first, second and tie: taken as ties")


def export(args: argparse.Namespace) -> None:
    """qi2 arena export SOURCE ... --votes FILE --out DIR"""
    from qi2.arena.board import export
    from qi2.arena.votes import Votes

    counts = export(field_of(args), Votes(args.votes), args.out, args.t2i, args.edit)
    print("\n".join(f"{args.out}/{name}.jsonl: {n} rows" for name, n in counts.items()))


def _checker(args: argparse.Namespace) -> "ScoreJudge":
    from qi2.arena.entrants import evaluation_of, folder_of
    from qi2.arena.judge import checker
    from qi2.core.errors import QI2Error

    found = [folder for source in args.sources if (folder := evaluation_of(folder_of(source)))]
    if not found:
        raise QI2Error("the exact checker needs a finished evaluation among the sources, whose prompts it knows the truth of")
    return checker(found[0])


def _reward(args: argparse.Namespace) -> "ScoreJudge":
    from qi2.arena.entrants import EDIT
    from qi2.arena.judge import ScoreJudge
    from qi2.core.errors import QI2Error
    from qi2.rewards.score import RewardModels

    if args.rewards is None or args.vlm is None:
        raise QI2Error("the reward judge needs --rewards runs/SCALE/rewards and --vlm, the Qwen3-VL that they were trained on (runs/SCALE/standins/vlm)")
    models = RewardModels.load(args.rewards, Path(args.vlm))

    def score(task: "Task", picture: "Image", sources: "Sequence[Image]") -> float:
        dimension, given = (args.edit, [list(sources)]) if task.suite == EDIT else (args.t2i, None)
        return float(models.score(dimension, [task.prompt], [picture], given)[0])

    return ScoreJudge(score, args.margin)


def _vlm(args: argparse.Namespace) -> "VLMJudge":
    from qi2.arena.judge import VLMJudge
    from qi2.core.errors import QI2Error
    from qi2.evaluation.scorers.registry import open_vlm

    if not args.vlm:
        raise QI2Error("the VLM judge needs --vlm: URL#MODEL of a server of chat completions, or a model's folder")
    return VLMJudge(open_vlm(args.vlm))


JUDGES: "dict[str, Callable[[argparse.Namespace], Judge]]" = {"checker": _checker, "reward": _reward, "vlm": _vlm}


def add_commands(commands: "argparse._SubParsersAction") -> None:
    """The parsers of this file's commands."""
    group = commands.add_parser("arena", help="blind pairwise votes of people and judges, and the ranking").add_subparsers(required=True, metavar="COMMAND")
    _serve_command(_command(group, "serve", serve, "the page on which people vote"))
    ranking = _command(group, "rank", rank, "ratings with intervals, per category")
    ranking.add_argument("--by", default="people", help="people, or the name of a judge")
    ranking.add_argument("--json", type=Path, help="also write the leaderboard to this file")
    _judge_command(_command(group, "judge", judge, "let a judge vote on every pair, in both orders"))
    out = _command(group, "export", export, "all votes, and people's preferences as rewards.pairs reads them")
    out.add_argument("--out", type=Path, default=Path("arena_votes"), help="folder")
    _dimensions(out)


def _command(group: "argparse._SubParsersAction", name: str, run: object, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = group.add_parser(name, help=text)
    parser.add_argument("sources", nargs="+", metavar="SOURCE", help="[NAME=]FOLDER: an evaluation, a bundle that holds one, or images with prompts.jsonl")
    parser.add_argument("--only", nargs="*", default=[], metavar="ENTRANT", help="these entrants alone")
    parser.add_argument("--votes", type=Path, default=Path("votes/arena.sqlite"), help="the file of votes; made where there is none")
    parser.set_defaults(run=run)
    return parser


def _serve_command(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="another address than loopback lets in those who have the invitation")
    parser.add_argument("--port", type=int, default=8017)
    parser.add_argument("--origin", default="", help="public address of a proxy before it, e.g. https://votes.example.org")
    parser.add_argument("--open-after", type=int, default=10, help="votes after which a voter sees the leaderboard")


def _judge_command(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--judge", choices=list(JUDGES), default="checker")
    parser.add_argument("--name", default="", help="under which its votes are kept; the kind of judge by default")
    parser.add_argument("--limit", type=int, default=0, help="pairs; 0: all")
    parser.add_argument("--rewards", type=Path, help="reward: folder of stage rewards")
    parser.add_argument("--vlm", help="reward: the Qwen3-VL of the rewards; vlm: URL#MODEL of a server of chat completions, or a folder")
    parser.add_argument("--margin", type=float, default=0.1, help="reward: scores that differ by no more are a tie (1 is the deviation of reference pictures)")
    _dimensions(parser)


def _dimensions(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--t2i", default="alignment", help="reward dimension of generated pictures")
    parser.add_argument("--edit", default="instruction", help="reward dimension of edits")
