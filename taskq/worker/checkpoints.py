"""How far attempts have come: what of it the broker is still to be told, and who waits for its word. Pure."""

from collections.abc import Callable

from taskq.limits import BATCH_BYTES_TARGET, BATCH_MAX
from taskq.protocol.messages import Checkpoint, Checkpointed, CheckpointItem

# Called with "" when it is recorded; else with why not: `stale`, `busy`, or `over`.
OnSaved = Callable[[str], None]


class Checkpoints:
    """The latest of each attempt. The next ones are said when the broker has recorded those before: an
    attempt that checkpoints in a tight loop costs no more than one for each commit."""

    def __init__(self) -> None:
        self._unsaid: dict[int, CheckpointItem] = {}
        self._said: dict[int, CheckpointItem] = {}  # on their way
        self._waiting: dict[int, list[OnSaved]] = {}  # for what is unsaid
        self._asking: dict[int, list[OnSaved]] = {}  # for what is on its way
        self._refused: dict[int, str] = {}  # of attempts that run: why the latest was; mostly it was not
        self._seq = 0
        self._is_urgent = False  # a report must not come before them

    def put(self, item: CheckpointItem) -> None:
        self._unsaid[item.lease] = item
        self._refused[item.lease] = ""

    def when_saved(self, lease: int, on_saved: OnSaved) -> None:
        """Call this with what becomes of the latest; at once, if that is known."""
        if lease in self._unsaid:
            self._waiting.setdefault(lease, []).append(on_saved)
        elif lease in self._said:
            self._asking.setdefault(lease, []).append(on_saved)
        else:
            on_saved(self._refused.get(lease, ""))

    def hurry(self, lease: int) -> None:
        """Its attempt ends without success: the next one is to know how far it came."""
        if lease in self._unsaid:
            self._is_urgent = True
        self._refused.pop(lease, None)

    def drop(self, lease: int) -> None:
        """Its attempt has succeeded: nobody will ever ask how far it came."""
        self._unsaid.pop(lease, None)
        self._said.pop(lease, None)
        self._refused.pop(lease, None)
        for calls in (self._waiting, self._asking):
            _tell(calls.pop(lease, []), "over")

    def close(self) -> None:
        """Nobody will hear of the broker any more."""
        for lease in [*self._unsaid, *self._said]:
            self.drop(lease)

    @property
    def is_due(self) -> bool:
        """Is there something to say now?"""
        return bool(self._unsaid) and (not self._said or self._is_urgent)

    def messages(self) -> list[Checkpoint]:
        """What to say now, in parts that the broker accepts."""
        items, self._unsaid = self._unsaid, {}
        self._is_urgent = False
        self._said.update(items)
        for lease, calls in self._waiting.items():
            self._asking.setdefault(lease, []).extend(calls)
        self._waiting = {}
        messages = []
        for part in _parts(list(items.values())):
            self._seq += 1
            messages.append(Checkpoint(self._seq, part))
        return messages

    def again(self) -> list[Checkpoint]:
        """There is a new connection: say all that the broker has not said to be recorded."""
        unsaid = {**self._said, **self._unsaid}
        self._said, self._unsaid = {}, unsaid
        return self.messages() if unsaid else []

    def on_checkpointed(self, message: Checkpointed) -> None:
        for unsaved in message.items:
            lease = unsaved.lease
            self._said.pop(lease, None)
            if lease in self._refused:
                self._refused[lease] = unsaved.code
            _tell(self._asking.pop(lease, []), unsaved.code)
        if message.seq < self._seq:
            return  # more of it is on its way
        asking, self._said, self._asking = self._asking, {}, {}
        for calls in asking.values():
            _tell(calls, "")


def _tell(calls: list[OnSaved], code: str) -> None:
    for call in calls:
        call(code)


def _parts(items: list[CheckpointItem]) -> list[list[CheckpointItem]]:
    parts: list[list[CheckpointItem]] = [[]]
    size = 0
    for item in items:
        if parts[-1] and (len(parts[-1]) == BATCH_MAX or size > BATCH_BYTES_TARGET):
            parts.append([])
            size = 0
        parts[-1].append(item)
        size += len(item.saved.value)
    return parts
