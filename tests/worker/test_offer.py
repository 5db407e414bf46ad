"""What a worker offers: queues with weights or in order, labels, resources; and what each refusal says."""

from typing import Any

import pytest

from taskq import Concurrency, Rate, TaskQ
from taskq.errors import ConfigError
from taskq.limits import EXT_ITEMS_MAX, QUEUES_PER_WORKER_MAX, WEIGHT_MAX
from taskq.protocol.messages import Announce, Limit
from taskq.worker.attempts import Definition
from taskq.worker.offer import Offer, offer_of, parse_queues


def test_queues_have_weights_when_one_has() -> None:
    offer = offer_of(["high:3", " default "])
    assert (offer.queues, offer.weights, offer.is_strict) == (("high", "default"), (3, 1), False)
    assert offer_of(["high", "default"]).weights == ()


def test_queues_in_strict_order() -> None:
    offer = offer_of(["high", "default"], strict=True)
    assert (offer.queues, offer.weights, offer.is_strict) == (("high", "default"), (), True)


def test_queues_as_one_text() -> None:
    assert parse_queues("high:3, default,,") == ("high:3", "default")
    assert offer_of("high:3,default") == offer_of(["high:3", "default"])
    with pytest.raises(ConfigError, match="no queue is named"):
        parse_queues(" , ")


def test_a_queue_named_twice_is_one() -> None:
    assert offer_of(["high:3", "default", "high:3"]).queues == ("high", "default")


def test_only_a_number_behind_the_last_colon_is_a_weight() -> None:
    assert offer_of(["mail:eu"]).queues == ("mail:eu",)
    assert (offer_of(["mail:eu:2"]).queues, offer_of(["mail:eu:2"]).weights) == (("mail:eu",), (2,))


@pytest.mark.parametrize(
    ("queues", "says"),
    [
        (["high:0"], f"'high': a weight is from 1 to {WEIGHT_MAX}"),
        (["high:-3"], "not -3"),
        ([f"high:{WEIGHT_MAX + 1}"], "a weight is from 1"),
        (["high:" + "9" * 10_000], "a weight is from 1"),
        (["high:٣"], "a weight is from 1"),
        ([":3"], "this has 0"),
        ([""], "this has 0"),
        (["x" * 201], "this has 201"),
        ([7], "not 7"),
        (["high:3", "high:4"], "named twice, with weights 3 and 4"),
        ([str(number) for number in range(QUEUES_PER_WORKER_MAX + 1)], "takes at most"),
    ],
)
def test_queues_that_cannot_be_served(queues: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        offer_of(queues)


def test_strict_order_has_no_weights_and_needs_names() -> None:
    with pytest.raises(ConfigError, match="'high' has a weight"):
        offer_of(["default", "high:3"], strict=True)
    with pytest.raises(ConfigError, match="none is"):
        offer_of(strict=True)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"labels": {"": "eu"}}, "a label's name has 1 to 200"),
        ({"labels": {"region": None}}, "label 'region'.*not None"),
        ({"labels": {"region": "x" * 2_001}}, "at most 2000"),
        ({"labels": {str(n): "" for n in range(EXT_ITEMS_MAX + 1)}}, "17 labels; a worker has at most 16"),
        ({"resources": {"gpu": 1.5}}, "resource 'gpu'.*not 1.5"),
        ({"resources": {"gpu": True}}, "not True"),
        ({"resources": {"gpu": 2**31 + 1}}, "from 0 to"),
        ({"resources": {3: 1}}, "a resource's name"),
    ],
)
def test_labels_and_resources_that_cannot_be(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        offer_of(**fields)


def test_a_number_is_a_label_too() -> None:
    assert offer_of(labels={"gpu": 1}).labels == {"gpu": "1"}


def test_all_of_it_is_announced_with_the_limits_of_the_tasks() -> None:
    app = TaskQ("taskq://127.0.0.1:1")

    @app.task(name="send", queue="mail", concurrency=5, rate_limit=Rate("10/s", per="key", burst=3))
    async def send() -> None: ...

    @app.task(name="draw", concurrency=Concurrency(1, per="key"))
    def draw() -> None: ...

    definitions = [Definition(task) for task in app.tasks.values()]
    offer = offer_of(["high:3", "mail"], labels={"region": "eu"}, resources={"gpu": 2})
    assert offer.announce(definitions, {"async": 10, "thread": 5}) == Announce(
        {"send": "async", "draw": "thread"},
        ["high", "mail"],
        {"async": 10, "thread": 5},
        {"region": "eu", "taskq.zstd": "yes"},
        {"gpu": 2},
        [3, 1],
        False,
        [
            Limit("task", "send", "concurrency", 5),
            Limit("task", "send", "rate", 10, True, 1_000, 3),
            Limit("task", "draw", "concurrency", 1, True),
        ],
    )


def test_without_names_a_worker_serves_default_and_what_its_tasks_use() -> None:
    app = TaskQ("taskq://127.0.0.1:1")
    for number, queue in enumerate(("mail", "default", "mail")):

        @app.task(name=str(number), queue=queue)
        async def one() -> None: ...

    definitions = [Definition(task) for task in app.tasks.values()]
    assert Offer().announce(definitions, {}).queues == ["default", "mail"]
