"""Jobs of a running engine from Python, over its REST interface; the command line uses it too."""

import urllib.error
import urllib.parse
import urllib.request
from http import HTTPStatus

import msgspec

from engine.errors import Conflict, Failed, InvalidRequest, NotFound, Overloaded, Refused, TandemError
from engine.jobs.job import Job, JobRequest, Status

TIMEOUT_S = 30.0
ERRORS: dict[int, type[TandemError]] = {
    HTTPStatus.BAD_REQUEST: InvalidRequest,
    HTTPStatus.NOT_FOUND: NotFound,
    HTTPStatus.CONFLICT: Conflict,
    HTTPStatus.TOO_MANY_REQUESTS: Overloaded,
}


class JobClient:
    """The jobs of the engine at a URL such as ``http://127.0.0.1:8090``.

    Methods raise what the engine answers: ``InvalidRequest``, ``NotFound``, ``Conflict``, ``Overloaded``
    with the time after which to try again; ``Failed`` where nobody answers.
    """

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    def submit(self, request: JobRequest) -> Job:
        """Queue a job; an equal request is the same one until it is done, with an id of your own for good.

        Paths are absolute. An id of your own may go to another request once its job failed or was cancelled.
        """
        return msgspec.json.decode(self._call("POST", "", msgspec.json.encode(request)), type=Job)

    def jobs(self) -> list[Job]:
        """All jobs, the newest first."""
        return msgspec.json.decode(self._call("GET", ""), type=list[Job])

    def status(self, job: str) -> Status:
        """A job and how far it is."""
        return msgspec.json.decode(self._call("GET", f"/{_quoted(job)}"), type=Status)

    def log(self, job: str) -> str:
        """What the job's process wrote."""
        return self._call("GET", f"/{_quoted(job)}/logs").decode(errors="replace")

    def cancel(self, job: str) -> Job:
        """Stop a job that is not publishing yet; nothing of it becomes visible, and it can be resumed."""
        return msgspec.json.decode(self._call("POST", f"/{_quoted(job)}/cancel"), type=Job)

    def resume(self, job: str) -> Job:
        """Go on with a failed or cancelled job."""
        return msgspec.json.decode(self._call("POST", f"/{_quoted(job)}/resume"), type=Job)

    def _call(self, method: str, path: str, body: bytes | None = None) -> bytes:
        if not self._url.startswith(("http://", "https://")):
            raise InvalidRequest(f"expected a URL such as http://127.0.0.1:8090, got '{self._url}'")
        request = urllib.request.Request(f"{self._url}/v1/jobs{path}", body, method=method)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
                content: bytes = answer.read()
                return content
        except urllib.error.HTTPError as error:
            if error.code == HTTPStatus.NOT_FOUND and not path:
                raise InvalidRequest(
                    f"no jobs are taken at {self._url}; `tandem serve` prints the address (jobs.port)"
                ) from error
            raise _in_words(error) from error
        except OSError as error:
            cause = getattr(error, "reason", error)  # urllib wraps what the socket said
            why = getattr(cause, "strerror", None) or cause
            raise Failed(
                f"no engine takes jobs at {self._url}: {why}; start one with `tandem serve`"
            ) from error


def _quoted(job: str) -> str:
    return urllib.parse.quote(job, safe="")


def _in_words(error: urllib.error.HTTPError) -> TandemError:
    answered = ERRORS.get(error.code, Failed)(_sentence(error))
    wait_s = error.headers.get("Retry-After", "")
    if isinstance(answered, Refused) and wait_s.isdecimal():
        answered.retry_after_s = float(wait_s)
    return answered


def _sentence(error: urllib.error.HTTPError) -> str:
    body = error.read()
    try:
        return str(msgspec.json.decode(body, type=dict[str, str])["error"])
    except (msgspec.DecodeError, KeyError):
        return f"expected an engine's answer, got {error.code} {error.reason}"
