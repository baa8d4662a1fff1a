import json
from pathlib import Path

from engine.batch.job import score_files
from engine.batch.report import write_report
from engine.config import Batch
from tests.engine.batch.conftest import write
from tests.engine.batch.test_bad_rows import spoilt


def test_a_page_and_its_figures_tell_what_a_job_did(bundle: str, data: Path, tmp_path: Path) -> None:
    write(data / "a.parquet", spoilt())
    settings = Batch(unit_rows=100, on_bad_row="quarantine")
    result = score_files(bundle, [str(data)], str(tmp_path / "out"), settings=settings)
    page = write_report(result, tmp_path / "pages" / "job.html")
    figures = json.loads(page.with_suffix(".json").read_text())
    assert (len(figures["done"]), sum(figures["histogram"]["score"])) == (2, 198)
    html = page.read_text()
    assert "198 rows scored with fares@" in html
    assert all(reason.split("'")[0] in html for reason in result.record.reasons)
    assert "<svg" in html
    assert "http" not in html.replace("http://www.w3.org", "")
