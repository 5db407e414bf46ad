"""What a supervisor says about its children. Pure: knows sessions, never processes."""

from collections import deque
from collections.abc import Callable, Sequence

from taskq.limits import BATCH_MAX, CHILDREN_PER_SUPERVISOR_MAX
from taskq.protocol.messages import (
    ChildExit,
    Exited,
    FromBroker,
    Instruction,
    Message,
    Obeyed,
    Vouch,
    Welcome,
)


class SupervisorSession:
    """The supervisor's side of the protocol: who is alive, who has ended and how. What it is told to do is
    passed to `on_instruction`, and answered by `obeyed`."""

    def __init__(self, on_instruction: Callable[[Instruction], None] | None = None) -> None:
        self._on_instruction = on_instruction
        self._obeyed: list[Obeyed] = []
        self._children: dict[bytes, None] = {}
        # Nothing answers an Exited, so the last ones are said again on each new connection. That is
        # never wrong: a session that has ended does not come back, its successor has another id.
        self._ended: deque[ChildExit] = deque(maxlen=CHILDREN_PER_SUPERVISOR_MAX)
        self._unsaid: list[ChildExit] = []
        self._vouch = False
        self._welcome = False

    def started(self, session: bytes) -> None:
        """There is a process that speaks as this session; the next outgoing vouches for it."""
        self._children[session] = None
        self._vouch = True

    def exited(
        self,
        session: bytes,
        status: int,
        text: str = "",
        *,
        timed_out: Sequence[int] = (),
        uncounted: bool = False,
    ) -> None:
        """Its process has ended: exit code, or minus the signal that killed it. `timed_out`: leases that we
        killed it for. `uncounted`: we did, and what else it held is not to blame."""
        del self._children[session]
        child = ChildExit(session, status, text, list(timed_out[:BATCH_MAX]), uncounted)
        self._ended.append(child)
        if self._welcome:
            self._unsaid.append(child)

    def vouch(self) -> None:
        """Say again, next time, that the children are alive."""
        self._vouch = True

    def on_welcome(self, welcome: Welcome) -> None:
        self._welcome = True
        self._unsaid = list(self._ended)
        self._vouch = True

    def on_message(self, message: FromBroker) -> None:
        """A supervisor asks for nothing; it may be told something."""
        if isinstance(message, Instruction):
            if self._on_instruction is None:
                self.obeyed(Obeyed(message.number, code="unsupported", text="this worker cannot be told so"))
            else:
                self._on_instruction(message)

    def obeyed(self, answer: Obeyed) -> None:
        """What became of an instruction. Not kept for another connection: the broker has refused it then."""
        if self._welcome:
            self._obeyed.append(answer)

    def on_lost(self) -> None:
        self._welcome = False
        self._obeyed = []

    def outgoing(self) -> list[Message]:
        if not self._welcome:
            return []
        messages: list[Message] = []
        if self._unsaid:
            messages.append(Exited(self._unsaid))
            self._unsaid = []
        if self._vouch and self._children:
            messages.append(Vouch(list(self._children)))
        self._vouch = False
        messages += self._obeyed
        self._obeyed = []
        return messages
