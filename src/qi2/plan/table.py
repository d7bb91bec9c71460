"""A plan as text: two tables, what does not fit, and every assumption."""

from collections.abc import Sequence
from dataclasses import astuple

from qi2.plan.cards import card
from qi2.plan.config import PlanConfig
from qi2.plan.estimate import Row
from qi2.plan.memory import usable

MEMORY_HEAD = ("stage", "px", "weights", "gradients", "optimizer", "EMA", "frozen", "activations", "total", "micro-batch", "accumulate")
WORK_HEAD = ("stage", "px", "batch", "steps", "tokens/sample", "tokens/step", "TFLOP/sample", "attention", "PFLOP/step", "s/step", "days", "USD")


def lines(scale: str, rows: Sequence[Row], plan: PlanConfig) -> list[str]:
    """The plan as lines for a terminal."""
    kind = card(plan.kind)
    networks = {row.stage.split()[0]: row.parameters for row in rows}
    return [
        f"{scale} on {plan.gpus} x {kind.name}: {plan.sharding}, {plan.checkpointing} checkpointing, {plan.dtype}",
        f"parameters: VAE {networks['vae']:,}, transformer {networks['distill']:,}",
        "",
        f"Memory of one card in GB ({usable(kind, plan):.1f} of {kind.memory} usable)",
        *_table(MEMORY_HEAD, [_memory_cells(row) for row in rows]),
        "",
        "Work, time and cost",
        *_table(WORK_HEAD, [*(_work_cells(row) for row in rows), _total_cells(rows)]),
        *_remarks(rows),
        "",
        "Assumptions",
        *_assumptions(plan),
    ]


def _memory_cells(row: Row) -> list[str]:
    parts = [f"{part:.2f}" for part in (*astuple(row.memory), row.memory.total)]
    fit = [str(row.micro), str(row.accumulation)] if row.micro else ["none fits", "-"]
    return [row.stage, str(row.side), *parts, *fit]


def _work_cells(row: Row) -> list[str]:
    flops = row.flops
    counts = [f"{row.batch:,}", f"{row.steps:,.0f}", f"{row.tokens:,.0f}", _short(row.tokens * row.batch)]
    work = [f"{flops.total / 1e12:.4g}", f"{flops.attention / flops.total:.0%}", f"{flops.total * row.batch / 1e15:.4g}"]
    time = [f"{row.seconds:.4g}", _short(row.days), _short(row.cost)] if row.micro else ["-", "-", "-"]
    return [row.stage, str(row.side), *counts, *work, *time]


def _total_cells(rows: Sequence[Row]) -> list[str]:
    fitting = [row for row in rows if row.micro]
    label = "all" if len(fitting) == len(rows) else "what fits"
    return [label, *[""] * 9, _short(sum(row.days for row in fitting)), _short(sum(row.cost for row in fitting))]


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in (head, *body)) for i in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(cell.rjust(width) if i else cell.ljust(width) for i, (cell, width) in enumerate(zip(cells, widths, strict=True))).rstrip()

    return [line(head), "  ".join("-" * width for width in widths), *map(line, body)]


def _remarks(rows: Sequence[Row]) -> list[str]:
    short = [f"{row.stage} at {row.side} px: a batch of {row.batch} leaves {row.idle} cards idle, and they are paid" for row in rows if row.idle]
    problems = [row.problem for row in rows if row.problem]
    return ["", *problems, *short] if problems or short else []


def _assumptions(plan: PlanConfig) -> list[str]:
    kind = card(plan.kind)
    price = kind.price if plan.price is None else plan.price
    states = "fp32 copy and moments" if plan.dtype != "fp32" else "fp32 moments"
    return [
        f"- {kind.name}: {kind.peak} TFLOP/s dense bf16, of which {plan.utilisation:.0%} is reached (recomputation counts as work, also at fp32);",
        f"  {price} USD per card and hour{'' if plan.price is not None else ', a round rate of ours'}; {plan.reserve:.0%} of its memory stays free.",
        f"- {plan.text_tokens} text tokens per prompt; {plan.references} reference(s) per edit, as large as the target; a stage's sizes share its steps.",
        f"- Weights and gradients in {plan.dtype}, optimiser states: {states} (Muon: one). The line's own loop is fp32 on one card.",
        f"- Batches: {plan.batches}. Work and activations are measured on the code of one block and of the VAE, run without data; all blocks are alike.",
        "- Latents and prompts come from stage encode: neither condition encoder nor VAE is in memory, except the VAE in rlhf.",
        "- Attention is counted over whole sequences, as the code's kernel is called; a padded mask counts among the activations where the code keeps one.",
        "- Not counted: communication, reading data, the losses' own networks (perceptual, alignment) and the reward models, decoding of rollouts.",
        "- rlhf keeps the old policy, distill the teacher and a trained fake score; both are sharded as the weights are. The VAE keeps its own checkpointing",
        "  setting, and its activations are an upper bound.",
    ]
