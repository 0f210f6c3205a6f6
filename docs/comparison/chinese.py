"""The words of the table in Chinese, for README.zh-CN.md."""

from __future__ import annotations

from typing import Final


CHINESE: Final = {
    "yes": "是",
    "no": "否",
    "by hand": "手写",
    "An exception passes, and the value is restored": "异常照常传出，值得到恢复",
    "A raw `set` inside the block is undone at its end": (
        "代码块内直接 `set` 的值在离开时撤销"
    ),
    "`async with`": "`async with`",
    "One instance, nested in itself": "同一个实例，嵌套进入自身",
    "One instance, shared by 50 tasks at once": "同一个实例，50 个任务同时共用",
    "Blocks that overlap, the first left first": "相互重叠的代码块，先进入的先离开",
    "Left by another task: no error, nothing changed there": (
        "由另一个任务离开：不报错，也不改变那里的值"
    ),
    "`break` out of an async generator: no error, right again after the next block": (
        "从异步生成器中 `break`：不报错，下一个代码块之后值又正确"
    ),
    "Decorates `def`": "装饰 `def`",
    "Decorates `async def`": "装饰 `async def`",
    "Decorates generators of both kinds, unseen by their consumer": (
        "装饰两种生成器，消费者看不到值"
    ),
    "10,000 tasks, each started in the one before: flat memory": (
        "10,000 个任务，各自由前一个启动：内存不增长"
    ),
}
