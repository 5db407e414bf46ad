"""What a producer follows: what to ask, what to ask again, whom to pass on what was told. Pure."""

from collections.abc import Iterator
from itertools import islice

from taskq import limits
from taskq.client.following import Following
from taskq.errors import Refused
from taskq.protocol.messages import Fed, Mark, Message, Taken, Unfollow


class Follows:
    """All followings of a session, by the numbers of their questions."""

    def __init__(self) -> None:
        self._follows: dict[int, Following] = {}
        self._to_follow: dict[int, None] = {}
        self._to_unfollow: dict[int, None] = {}
        self._to_mark: dict[int, None] = {}

    def __contains__(self, request: int) -> bool:
        return request in self._follows

    def __bool__(self) -> bool:
        """May there be something to say?"""
        return bool(self._follows or self._to_unfollow)

    def add(self, following: Following, request: int) -> None:
        following.request = request
        self._follows[request] = following
        self._to_follow[request] = None

    def remove(self, following: Following) -> None:
        request = following.request
        if self._follows.pop(request, None) is None:
            return
        self._to_mark.pop(request, None)
        if request in self._to_follow:
            del self._to_follow[request]
        else:
            self._to_unfollow[request] = None

    def took(self, following: Following) -> None:
        if following.request in self._follows:
            self._to_mark[following.request] = None

    def on_fed(self, fed: Fed) -> None:
        following = self._follows.get(fed.request)
        if following is not None:
            following.on_fed(fed)

    def on_refused(self, request: int, refused: Refused) -> None:
        self._follows[request].on_refused(refused)

    def on_unsupported(self, refused: Refused) -> None:
        """The broker knows of no following at all."""
        for following in list(self._follows.values()):
            following.on_refused(refused)

    def on_welcome(self) -> None:
        """All is asked again, from where it has come to."""
        self._to_follow = dict.fromkeys(self._follows)
        self._to_unfollow = {}
        self._to_mark = {}

    def outgoing(self) -> Iterator[Message]:
        while self._to_unfollow:
            part = list(islice(self._to_unfollow, limits.BATCH_MAX))
            for request in part:
                del self._to_unfollow[request]
            yield Unfollow(part)
        # What is asked for now says it by that.
        marks = [self._follows[number].mark() for number in self._to_mark if number not in self._to_follow]
        self._to_mark = {}
        yield from map(Taken, _parts(marks))
        for number in self._to_follow:
            yield self._follows[number].question()
        self._to_follow = {}


def _parts(marks: list[Mark]) -> Iterator[list[Mark]]:
    for at in range(0, len(marks), limits.BATCH_MAX):
        yield marks[at : at + limits.BATCH_MAX]
