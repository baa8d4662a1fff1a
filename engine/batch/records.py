"""What is known of a plan's units: which are done, and which of their rows kill whoever scores them.

The records lie with the job's others, in folders named after the plan. So an attempt that was made for
an earlier plan of the job, and ends late, is never taken for one of this plan, whose unit of that
number may be made of other rows.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from engine.batch.manifest import Done, encode
from engine.batch.output import JobStore
from engine.batch.plan import PLAN, Plan


@dataclass(frozen=True, slots=True)
class Records:
    """The records of one plan.

    Attributes:
        store: The job's records, and its attempts.
        digest: Of the plan.
    """

    store: JobStore
    digest: str

    @staticmethod
    def of(store: JobStore, plan: Plan) -> "Records":
        """The records of a plan."""
        return Records(store, hashlib.sha256(encode(plan)).hexdigest())

    @staticmethod
    def found(store: JobStore) -> "tuple[Records, Plan] | None":
        """The plan that a job follows, and its records; None before there is one."""
        if (data := store.read(PLAN)) is None:
            return None
        return Records(store, hashlib.sha256(data).hexdigest()), msgspec.json.decode(data, type=Plan)

    def plan(self) -> Plan | None:
        """The plan, if it still is the one that the job follows."""
        found = Records.found(self.store)
        return found[1] if found and found[0] == self else None

    def units_done(self) -> set[int]:
        """Indices of the units that are done."""
        return {int(name.removesuffix(".json")) for name in self.store.names(self._folder("done"))}

    def done(self, unit: int) -> Done | None:
        """What is recorded of a unit that is done."""
        data = self.store.read(self._name("done", unit))
        return msgspec.json.decode(data, type=Done) if data else None

    def commit(self, done: Done) -> bool:
        """Record that a unit is done; False (and no change) if it is already."""
        return self.store.put(self._name("done", done.unit), encode(done))

    def killers(self, unit: int) -> list[int]:
        """Offsets of the rows of a unit that must not be scored."""
        data = self.store.read(self._name("killers", unit))
        return msgspec.json.decode(data, type=list[int]) if data else []

    def add_killers(self, unit: int, offsets: Iterable[int]) -> None:
        """Remember more rows of a unit that must not be scored."""
        known = sorted({*self.killers(unit), *offsets})
        self.store.replace(self._name("killers", unit), msgspec.json.encode(known))

    def take_over(self, earlier: "Records") -> None:
        """Record as done what an earlier plan's records say is done."""
        for unit in earlier.units_done():
            if (done := earlier.done(unit)) is not None:
                self.commit(done)

    def _folder(self, kind: str) -> str:
        return f"{kind}/{self.digest[:12]}"

    def _name(self, kind: str, unit: int) -> str:
        return f"{self._folder(kind)}/{unit:05d}.json"
