"""Tasks with secrets, for real workers."""

from dataclasses import dataclass

from taskq import Secret, TaskQ

q = TaskQ()


@dataclass
class Login:
    user: str
    password: Secret[str]


@q.task
async def open_up(token: Secret[str], login: Login) -> int:
    return len(token.reveal()) + len(login.password.reveal())


@q.task(retry=2)
def fail(token: Secret[str], *, login: Login) -> None:
    raise PermissionError(f"{token} is not the token of {login}")
