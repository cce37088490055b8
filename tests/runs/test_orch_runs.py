"""``%orch_runs`` in a real kernel, on a real server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.notebook.frontend import Page
from tests.notebook.kernels import Kernel, kernel
from tests.servers import prefect_home, prefect_server

RUNS = 60

_MADE = f"""
client = orchnb.get_client()
for number in range({RUNS}):
    customer = "acme" if number % 10 == 0 else "other"
    name = "even" if number % 2 == 0 else "odd"
    run = await client.create_flow_run(
        "etl" if number < 50 else "train",
        name=f"{{name}}-{{number}}",
        parameters={{"customer": customer, "number": number}},
        state="RUNNING" if number % 3 else "FAILED",
    )
"""


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    home = tmp_path_factory.mktemp("site")
    prefect_home(home / ".prefect")
    with (
        prefect_server(home) as url,
        kernel(tmp_path_factory.mktemp("kernel"), PREFECT_API_URL=url) as started,
    ):
        for source in ("%load_ext orchnb", _MADE):
            shown = started(source)
            assert not shown.errors, shown.traceback
        yield started


@pytest.mark.parametrize(
    ("line", "count", "words"),
    [
        ("", 50, "1 to 20 of the 50 flow runs found, newest first; 60 in all"),
        ("-n 5", 5, "5 flow runs found, newest first; 60 in all"),
        ("even --flow train", 5, "5 flow runs found, newest first; 5 in all"),
        ("odd-7", 1, "1 flow run found, newest first; 1 in all"),
        ("--state failed -n 7", 7, "7 flow runs found, newest first; 20 in all"),
        ("--since 24h --flow etl -n 3", 3, "3 flow runs found, newest first; 50 in all"),
        (
            "--where \"customer == 'acme'\"",
            6,
            "6 flow runs found among the newest 60, newest first; 60 in all",
        ),
        (
            "--flow etl --where \"customer == 'acme' and number > 20\"",
            2,
            "2 flow runs found among the newest 50, newest first; 50 in all",
        ),
        ("--where \"custmer == 'acme'\"", 0, "Did you mean 'customer'"),
        ("nothing-like-this", 0, "No flow run was found"),
    ],
)
def test_runs_are_found_counted_and_picked(cell: Kernel, line: str, count: int, words: str) -> None:
    shown = cell(f"%orch_runs {line}")
    assert not shown.errors, shown.traceback
    assert words in " ".join(bundle["text/plain"] for bundle in shown.bundles)
    assert cell.value("len(picked)") == str(count)


def test_the_newest_run_is_the_first(cell: Kernel) -> None:
    cell("%orch_runs -o mine")
    assert cell.value("[run.parameters['number'] for run in mine[:3]]") == "[59, 58, 57]"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--where \"__import__('os')\"", "is not allowed in a condition"),
        ("--where \"customer = 'acme'\"", "is not a condition"),
        ("--since yesteryear", "is not a point in time"),
        ("--state faild", "Did you mean 'Failed'"),
        ("-o 'not a name'", "takes the name of a variable"),
        ("-n many", "invalid int value"),
    ],
)
def test_what_cannot_be_searched_is_a_usage_error(cell: Kernel, line: str, words: str) -> None:
    shown = cell(f"%orch_runs {line}")
    assert words in shown.everything
    assert "UsageError" in shown.everything


def test_pages_are_turned_by_buttons_until_the_next_cell(cell: Kernel) -> None:
    page = Page(cell)
    found = page.run("%orch_runs")
    assert page.buttons(found)
    assert "even-58" in page.text(found)
    page.press("Next page")
    page.until(lambda: "21 to 40 of the 50" in page.text(found))
    assert "even-58" not in page.text(found)
    page.press("Next page")
    page.until(lambda: "41 to 50 of the 50" in page.text(found))
    page.press("Previous page")
    page.until(lambda: "21 to 40 of the 50" in page.text(found))
    page.run("1 + 1")
    assert not page.buttons(found)
    assert not page.comms
    assert "21 to 40 of the 50" in page.text(found)
