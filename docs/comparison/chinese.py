"""The words of the table in Chinese, for README.zh-CN.md."""

from __future__ import annotations

from typing import Final


CHINESE: Final = {
    "yes": "是",
    "no": "否",
    "by hand": "手写",
    "An exception passes, and the value is restored": "异常照常传出，原值恢复",
    "A raw `set` inside the block is undone at its end": (
        "代码块内直接 `set` 的值在退出时撤销"
    ),
    "`async with`": "`async with`",
    "One instance, nested in itself": "同一个实例，在自身内部再次进入",
    "One instance, shared by 50 tasks at once": "同一个实例，由 50 个任务同时使用",
    "Blocks that overlap, the first left first": "相互重叠的代码块，先进入的先退出",
    "Left by another task in a block of its own: no error, its value stays": (
        "在另一个任务自己的代码块里退出：不报错，那里的值不变"
    ),
    "`break` out of an async generator: no error, right again after the next block": (
        "用 `break` 跳出异步生成器：不报错，下一个代码块之后恢复正确"
    ),
    "Decorates `def`": "装饰 `def`",
    "Decorates `async def`": "装饰 `async def`",
    "Decorates generators of both kinds, unseen by their consumer": (
        "装饰两种生成器，消费者看不到值"
    ),
    "10,000 tasks, each started in the one before: flat memory": (
        "10,000 个任务，每个由前一个启动：内存不增长"
    ),
}
