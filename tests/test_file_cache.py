"""Files in the cache folder: a limited number, complete, and only the user's own."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from orchnb.file_cache import FileCache
from tests.servers import run_script


def test_the_oldest_files_are_removed_also_unfinished_ones(tmp_path: Path) -> None:
    cache = FileCache(lambda: tmp_path / "c", suffix=".json", largest=1_000, most_files=3)
    for age, key in enumerate("abcd"):
        cache.write(key, b"x" * 10)
        os.utime(tmp_path / "c" / f"{key}.json", (age, age))
    assert cache.read("a") is None
    assert cache.read("b") == b"x" * 10
    assert sorted(path.stem for path in (tmp_path / "c").iterdir()) == ["b", "c", "d"]
    (tmp_path / "c" / "left.part").write_bytes(b"x")
    os.utime(tmp_path / "c" / "left.part", (0, 0))
    cache.write("e", b"x")
    names = sorted(path.name for path in (tmp_path / "c").iterdir())
    assert names == ["c.json", "d.json", "e.json"]


def test_processes_write_one_file_at_the_same_time(tmp_path: Path) -> None:
    code = """
        import sys
        from pathlib import Path
        from orchnb.file_cache import FileCache
        cache = FileCache(lambda: Path(sys.argv[1]), suffix=".json", largest=10**6, most_files=2)
        mine = sys.argv[2].encode() * 200_000
        for n in range(150):
            cache.write(f"k{n % 3}", mine)
            found = cache.read(f"k{n % 3}")
            assert found is None or (len(found) == 200_000 and len(set(found)) == 1), "torn"
        print("sound")
    """
    with ThreadPoolExecutor(2) as pool:
        runs = [
            pool.submit(run_script, code, tmp_path, arguments=(str(tmp_path / "c"), letter))
            for letter in "ab"
        ]
        for run in runs:
            assert run.result().stdout == "sound\n", run.result().stderr
    assert 1 <= len(list((tmp_path / "c").iterdir())) <= 2
