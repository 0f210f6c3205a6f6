"""The words of the table in Chinese, for README.zh-CN.md."""

from __future__ import annotations

from typing import Final


CHINESE: Final = {
    "yes": "是",
    "no": "否",
    "by hand": "手写",
    "An exception passes, and the value is restored": "异常照常传出，原值恢复",
    "A raw `set` inside the block is undone when it ends": (
        "代码块内直接 `set` 的值在退出时撤销"
    ),
    "`async with`": "`async with`",
    "One instance, nested in itself": "同一个实例，嵌套进入",
    "One instance, shared by 50 tasks at once": "同一个实例，由 50 个任务同时使用",
    "Overlapping blocks, left in the order in which they were entered": (
        "相互重叠的代码块，先进入的先退出"
    ),
    "Left by another task: no error, and that task keeps its own value": (
        "由另一个任务退出：不报错，那个任务仍保留自己的值"
    ),
    "`break` out of an async generator: no error, restored after the next block": (
        "用 `break` 跳出异步生成器：不报错，下一个代码块之后恢复原值"
    ),
    "Decorates `def`": "装饰 `def`",
    "Decorates `async def`": "装饰 `async def`",
    "Decorates both kinds of generator, hidden from the consumer": (
        "装饰两种生成器，使用方看不到值"
    ),
    "10,000 tasks, each started by the one before: flat memory": (
        "10,000 个任务，每个由前一个启动：内存不增长"
    ),
}
