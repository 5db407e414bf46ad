"""Appends without end and says each number when it was told that it is there. The tests kill it."""

import asyncio
import sys

from taskq.journal.base import open_journal


def blob(seq: int) -> bytes:
    return b"%d " % seq * (seq * 37 % 2_000 + 1)


async def main(url: str, inline: str, durability: str) -> None:
    journal = await open_journal(url, inline=bool(int(inline)))
    for seq in range(journal.last_seq + 1, 10_000_000):
        await journal.append(seq, blob(seq), int(durability))
        if seq % 50 == 0:
            await journal.trim(seq - 200)
        print(seq, flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
