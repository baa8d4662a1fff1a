"""Every deliberate error of the engine. The tree answers: whose fault is it, and may I retry?

    TandemError
    ├── InvalidInput            the caller's; the same call fails again
    │   ├── InvalidConfig       a config file or option
    │   ├── InvalidModel        a file that is no model
    │   │   └── UnsupportedModel    a model that cannot be represented exactly, refused by name
    │   ├── InvalidBundle       truncated, tampered with, or of another format
    │   ├── InvalidTable        Parquet or Arrow data that does not fit the model's features
    │   ├── InvalidRequest      a malformed request
    │   │   ├── BodyTooLarge
    │   │   ├── UnsupportedMedia    a content type not spoken here
    │   │   │   └── UnsupportedEncoding     a content encoding not spoken here
    │   │   ├── WrongMethod         a route exists, but not for this method
    │   │   ├── SlowBody            the body did not arrive in time
    │   │   └── BadRow          one row of a request breaks a feature's rule
    │   ├── NotFound            no such model, revision, job or path
    │   └── Forbidden           the engine was not told to allow it
    ├── Conflict                the state of the world; change the call or the world
    │   ├── OutputExists        the output holds something already
    │   └── JobChanged          a resumed job's bundle, inputs or options differ
    ├── Refused                 the engine's policy; the same call may succeed later
    │   ├── Overloaded          would miss its deadline if admitted
    │   ├── DeadlineExceeded    its deadline passed while it waited
    │   └── ShuttingDown        the replica is draining
    └── Failed                  the engine's or the machine's
        ├── PortTaken           another process listens on the port
        ├── StorageFailed       a disk or object store said no
        └── ScoringFailed       a backend raised on a valid row

Messages say what was expected, what came, where, and the way out. Errors cross process
borders, so all arguments go to ``super().__init__`` and every class pickles.
"""


class TandemError(Exception):
    """Base of all deliberate errors; ``str(error)`` is one sentence for a person."""


class InvalidInput(TandemError):
    """The call itself is wrong; repeating it fails again."""


class InvalidConfig(InvalidInput):
    """A config file or option has a wrong key, type or value."""


class InvalidModel(InvalidInput):
    """The file or object given is not a model that any importer reads."""


class UnsupportedModel(InvalidModel):
    """The model uses a feature that cannot be represented exactly."""


class InvalidBundle(InvalidInput):
    """The directory is not an intact bundle of a known format."""


class InvalidTable(InvalidInput):
    """A table lacks a feature, or carries it with a wrong type."""


class InvalidRequest(InvalidInput):
    """A request that cannot be decoded or does not fit the model."""


class BodyTooLarge(InvalidRequest):
    """A request body, as sent or once decompressed, is over the limit."""


class UnsupportedMedia(InvalidRequest):
    """A content type that the route does not speak."""


class UnsupportedEncoding(UnsupportedMedia):
    """A content encoding that no route speaks."""


class WrongMethod(InvalidRequest):
    """The route exists, but not for this HTTP method.

    Attributes:
        allowed: The methods that it exists for, with commas.
    """

    allowed: str = ""


class SlowBody(InvalidRequest):
    """The request's body did not arrive in time."""


class BadRow(InvalidRequest):
    """One row breaks a rule of its feature; its neighbours are scored."""


class NotFound(InvalidInput):
    """No model, revision, job or path of that name."""


class Forbidden(InvalidInput):
    """A call that this engine does not allow; its sentence says what would."""


class Conflict(TandemError):
    """The call is well-formed but the world is in another state."""


class OutputExists(Conflict):
    """The output location already holds a result."""


class JobChanged(Conflict):
    """A job of this id was planned with another bundle, inputs or options."""


class Refused(TandemError):
    """Refused by policy; the same call may succeed later.

    Attributes:
        retry_after_s: How long a caller had better wait before the next try.
    """

    retry_after_s: float = 1.0


class Overloaded(Refused):
    """Admitting the request would make it, or others, late."""


class DeadlineExceeded(Refused):
    """The request's deadline passed before it was scored."""


class ShuttingDown(Refused):
    """The replica is draining and takes no new work."""


class Failed(TandemError):
    """The engine or the machine failed; the call was fine."""


class PortTaken(Failed):
    """Another process listens on the port."""


class StorageFailed(Failed):
    """A file system or object store refused a read or a write."""


class ScoringFailed(Failed):
    """A backend raised on valid rows."""
