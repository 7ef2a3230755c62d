"""What to do about a slow input, in the order of the published flow chart, and before it: is it the input at all?

The published order (AWS, 2022): show that the job is bound by its CPUs; look for a larger size of the same family; where there
is none, a heterogeneous cluster; decoding on the GPU is the other alternative. Before that stands the cheapest way, a cheaper
graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hetero_tfdata.plan.model import Assumptions, Job, predict
from hetero_tfdata.plan.options import Option, best, larger_sizes
from hetero_tfdata.plan.prices import PriceList
from hetero_tfdata.plan.profile import Profile

__all__ = ["EXITS", "Question", "advise"]

_INPUT, _GRAPH, _SIZE, _CLUSTER, _DECODING = (
    "Is the job bound by its input?",
    "Would a cheaper graph do?",
    "Is there a larger size of the same family?",
    "Does a heterogeneous cluster pay?",
    "Would decoding on the accelerators do?",
)
# The flow chart: its questions in their order; of each the answer that leads out of it, and what is done then.
EXITS = {
    _INPUT: ("no", "leave the input"),
    _GRAPH: ("yes", "change the graph"),
    _SIZE: ("yes", "take it, if it is cheaper"),
    _CLUSTER: ("yes", "add data hosts"),
    _DECODING: ("yes", "decode there"),
}

# An input that takes so much longer than the accelerators is worth a change.
_WORTH = 1.05
_STAGES_TOLD = 2
_BATCHED_SAVES = 0.9


@dataclass(frozen=True)
class Question:
    """A box of the flow chart.

    Attributes:
        asked: such as "Is the job bound by its input?".
        answer: "yes", "no" or "measure": what would have to be measured to tell.
        told: the arithmetic, in sentences.
    """

    asked: str
    answer: str
    told: str


def advise(
    job: Job,
    found: Sequence[Option],
    recommended: Option,
    prices: PriceList,
    assumptions: Assumptions,
    profile: Profile | None = None,
) -> list[Question]:
    """The path through the flow chart.

    Args:
        job: what a step needs.
        found: the options, the one without data hosts first.
        recommended: the best of them.
        prices: for larger sizes.
        assumptions: of the predictions.
        profile: what was measured of the graph; None: nothing.
    """
    alone = found[0]
    path = [_bound(job, alone)]
    if path[0].answer == "no":
        return path
    path.append(_cheaper(job, alone, recommended, assumptions, profile))
    path.append(_larger(job, alone, prices, assumptions))
    path.append(_heterogeneous(found, alone, recommended))
    path.append(
        Question(
            _DECODING,
            "measure",
            "It takes their time too: measure the accelerators' step with it, and plan again with "
            "--accelerator-ms-per-step and what is left in --cpu-ms-per-sample",
        )
    )
    return path


def _bound(job: Job, alone: Option) -> Question:
    prediction, train = alone.prediction, alone.train
    assert train.vcpu is not None
    needed = job.global_batch_size * job.cpu_ms_per_sample / job.accelerator_ms_per_step
    there = alone.train_count * train.vcpu
    accelerators = alone.train_count * (train.accelerators or 0)
    each = f", {needed / accelerators:.3g} for each of {accelerators} accelerators," if accelerators else ""
    if prediction.input_ms <= prediction.accelerator_ms * _WORTH:
        return Question(
            _INPUT,
            "no",
            f"The input takes {prediction.input_ms:.4g} ms a step, the accelerators {prediction.accelerator_ms:.4g}: more CPUs "
            f"change nothing. {needed:.3g} vCPUs{each} are needed, {there} are there",
        )
    another = predict(
        replace(job, global_batch_size=job.global_batch_size * (alone.train_count + 1) // alone.train_count),
        train,
        alone.train_count + 1,
        None,
        0,
    )
    return Question(
        _INPUT,
        "yes",
        f"{needed:.3g} vCPUs{each} are needed to keep the accelerators busy, {there} are there: {needed - there:.3g} are short "
        f"({1 - there / needed:.0%}), and the accelerators are busy at most {there / needed:.0%} of the time. One more "
        f"{train.name} does not lift that: {another.accelerator_utilisation:.0%}, as it brings its own accelerators",
    )


def _cpu_ms_enough(job: Job, alone: Option) -> float:
    assert alone.train.vcpu is not None
    return job.accelerator_ms_per_step * alone.train_count * alone.train.vcpu / job.global_batch_size


def _cheaper(job: Job, alone: Option, recommended: Option, assumptions: Assumptions, profile: Profile | None) -> Question:
    enough = _cpu_ms_enough(job, alone)
    stages = profile.stages if profile else ()
    told = [f"From {enough:.3g} vCPU-ms a sample down it would, without another host; it takes {job.cpu_ms_per_sample:.3g}"]
    whole = sum(stage.cpu_ms_per_sample for stage in stages)
    for stage in sorted(stages, key=lambda stage: -stage.share)[:_STAGES_TOLD]:
        # a stage at a tenth of its cost, as operations over whole batches are against those of one image (make bench-augment)
        cheaper = job.cpu_ms_per_sample * (1 - _BATCHED_SAVES * stage.cpu_ms_per_sample / whole)
        prediction = predict(replace(job, cpu_ms_per_sample=cheaper), alone.train, alone.train_count, None, 0)
        option = replace(alone, prediction=prediction)
        told.append(
            f"{stage.stage} is {stage.share:.0%} of it: at a tenth, {prediction.step_ms:.4g} ms a step, {_cost(option, alone)}"
        )
    if not stages:
        told.append(
            "hetero_tfdata.augment has operations over whole batches at a tenth of the CPU; `hetero-tfdata measure` says "
            "which stages cost most"
        )
    told.append(_as_bytes(job, recommended, assumptions, profile))
    return Question(_GRAPH, "measure", ". ".join(told))


def _as_bytes(job: Job, recommended: Option, assumptions: Assumptions, profile: Profile | None) -> str:
    """What it changes to send uint8 where float32 travels: a quarter of those bytes."""
    if profile is None:
        return "Images travel as uint8 at a quarter of the bytes of float32; `hetero-tfdata measure` says what yours are"
    floats = profile.float32_bytes_per_sample
    if not floats:
        return "No float32 is on the wire"
    lighter = replace(job, wire_bytes_per_sample=max(1.0, job.wire_bytes_per_sample - 0.75 * floats))
    one = recommended
    then = predict(lighter, one.train, one.train_count, one.data, one.prediction.data_instances, assumptions)
    part = floats / profile.wire_bytes_per_sample
    return (
        f"{part:.0%} of a sample's {job.wire_bytes_per_sample:,.0f} bytes are float32: as uint8, cast after distribute(), "
        f"they are {lighter.wire_bytes_per_sample:,.0f}, and a step of {one.name} takes {then.step_ms:.4g} ms instead of "
        f"{one.prediction.step_ms:.4g}"
    )


def _larger(job: Job, alone: Option, prices: PriceList, assumptions: Assumptions) -> Question:
    sizes = list(larger_sizes(alone.train, prices))
    if not sizes:
        return Question(_SIZE, "no", f"None with as many accelerators and more vCPUs than {alone.train.name} is known")
    told = []
    for size in sizes:
        prediction = predict(job, size, alone.train_count, None, 0, assumptions)
        cost = "its price is not known"
        if size.name in prices:
            option = Option(size, alone.train_count, None, prediction, alone.train_count * prices.usd(size.name))
            cost = _cost(option, alone)
        told.append(f"{size.name}: {prediction.step_ms:.4g} ms a step, {cost}")
    return Question(_SIZE, "yes", "; ".join(told))


def _heterogeneous(found: Sequence[Option], alone: Option, recommended: Option) -> Question:
    with_data = [one for one in found if one.prediction.data_instances]
    if recommended.prediction.data_instances:
        return Question(
            _CLUSTER,
            "yes",
            f"{recommended.name}: {recommended.prediction.step_ms:.4g} ms a step instead of "
            f"{alone.prediction.step_ms:.4g}, {_cost(recommended, alone)}",
        )
    if not with_data:
        return Question(_CLUSTER, "no", "no data hosts were asked for (--max-data-instances 0)")
    second = best(with_data)
    return Question(
        _CLUSTER,
        "no",
        f"the best with data hosts, {second.name}, takes {second.prediction.step_ms:.4g} ms a step: {_cost(second, alone)}",
    )


def _cost(option: Option, alone: Option) -> str:
    change = option.usd_per_1000_steps / alone.usd_per_1000_steps - 1
    how = "cheaper" if change < 0 else "dearer"
    return f"${option.usd_per_1000_steps:.3f} per 1,000 steps, {abs(change):.0%} {how}"
