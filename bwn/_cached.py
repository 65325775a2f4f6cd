"""Attributes that are computed once."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, TypeVar

T = TypeVar("T")


class cached_property(functools.cached_property[T]):  # noqa: N801, TID251
    """As in functools since Python 3.12: without the lock that Python 3.11 has.

    A forked child would wait for that lock forever if another thread of its parent had held it.
    """

    if not TYPE_CHECKING:  # the types are those of functools

        def __get__(self, instance, owner=None):
            """The value; two threads may compute it at once."""
            if instance is None:
                return self
            values = instance.__dict__
            if self.attrname not in values:
                values[self.attrname] = self.func(instance)
            return values[self.attrname]
