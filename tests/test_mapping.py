"""Batch inference over files and tables: what comes out, what fails, what a kill leaves, and the same by Ray."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
import torch
from PIL import Image

import bestiary
from bestiary.errors import InputError, UnknownModel
from bestiary.mapping import Ray, map_files
from bestiary.mapping.columns import result_fields
from tests.text.models import write_model

MINILM, LITE = "minilm-l6-v2", "efficientnet-lite0"
PHOTO = Path(bestiary.__file__).parent.parent / "scripts" / "chelsea.jpg"
TEXTS = ["a cat", "a dog that barks at the moon", "naïve 猫", "", "a car", "the end"]


@pytest.fixture
def texts(tmp_path):
    """A folder of six texts, some further down, some with names beyond ASCII."""
    folder = tmp_path / "textes français"
    (folder / "плюс").mkdir(parents=True)
    for number, text in enumerate(TEXTS):
        (folder / ("плюс" if number > 3 else ".") / f"{number} é.txt").write_text(text + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def photos(tmp_path):
    """A folder of five photos, one of which is damaged, and things that are no images."""
    folder = tmp_path / "photos"
    folder.mkdir()
    photo = Image.open(PHOTO)
    for number in range(5):
        photo.crop((20 * number, 0, 300 + 20 * number, 300)).save(folder / f"{number}.jpg")
    (folder / "2.jpg").write_bytes((folder / "2.jpg").read_bytes()[:3000])
    (folder / "notes.md").write_text("nothing to see")
    return folder


def rows_of(folder, columns=None):
    """As any reader of parquet takes a folder."""
    return pq.read_table(folder, columns=columns).to_pylist()


def failures_of(done):
    return [json.loads(line) for line in done.failures.read_text(encoding="utf-8").splitlines()]


def parts_of(folder):
    return {path.name: pq.read_table(path) for path in sorted(Path(folder).glob("part-*"))}


# Files


def test_texts_in_a_folder_become_vectors_in_their_order(texts, tmp_path):
    done = map_files(MINILM, texts, tmp_path / "out", part_size=4)
    assert done[:4] == (6, 0, 2, 0) and not done.failures.exists()
    assert sorted(os.listdir(done.folder)) == ["_map.json", "part-00000.parquet", "part-00001.parquet"]
    table = pq.read_table(done.folder)
    assert table.column("path").to_pylist() == [*(f"{n} é.txt" for n in range(4)), *(f"плюс/{n} é.txt" for n in (4, 5))]
    assert table.schema.field("vector").type == pa.list_(pa.float32(), 384)
    vectors = torch.tensor(table.column("vector").to_pylist())
    assert torch.allclose(vectors, bestiary.load(MINILM)(TEXTS), atol=1e-6)


def test_a_damaged_image_is_named_and_the_others_go_on(photos, tmp_path):
    done = map_files(LITE, photos, tmp_path / "out", options={"top": 3}, part_size=2)
    assert done[:3] == (4, 1, 3)
    (failure,) = failures_of(done)
    assert failure["path"] == "2.jpg" and "damaged" in failure["reason"]
    rows = rows_of(done.folder)
    assert [row["path"] for row in rows] == ["0.jpg", "1.jpg", "3.jpg", "4.jpg"]
    classify = bestiary.load(LITE)
    for row in rows:
        labels = classify(photos / row["path"], top=3)
        assert row["labels"] == [label.name for label in labels] and row["label"] == labels[0].name
        assert row["scores"] == pytest.approx([label.score for label in labels], abs=1e-5) and row["score"] == row["scores"][0]


def test_a_part_in_which_everything_failed_has_the_columns_of_the_others(photos, tmp_path):
    done = map_files(LITE, photos, tmp_path / "out", part_size=1)
    parts = parts_of(done.folder)
    assert [len(part) for part in parts.values()] == [1, 1, 0, 1, 1]
    assert len({str(part.schema) for part in parts.values()}) == 1


def test_what_only_the_model_finds_wrong_is_found_out_of_its_batch(tmp_path):
    model = write_model(tmp_path / "model", template=None, context=40)
    folder = tmp_path / "prompts"
    folder.mkdir()
    prompts = ["Gravity is", "yes " * 60, "The cat", "", "no", "maybe"]
    for number, prompt in enumerate(prompts):
        (folder / f"{number}.txt").write_text(prompt)
    done = map_files(model, folder, tmp_path / "out", options={"max_new_tokens": 4})
    assert [failure["path"] for failure in failures_of(done)] == ["1.txt", "3.txt"]
    assert "takes 1 to 39" in failures_of(done)[0]["reason"]
    wanted = bestiary.load(model).generate([prompts[n] for n in (0, 2, 4, 5)], max_new_tokens=4)
    assert [row["text"] for row in rows_of(done.folder)] == wanted


# Tables


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_rows_of_tables_keep_their_columns(form, tmp_path):
    rows = [{"id": n, "text": text or None, "tag": f"t{n}"} for n, text in enumerate(TEXTS)]
    path = tmp_path / f"données.{form}"
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=2)
    else:
        import datasets

        table = datasets.Dataset.from_list(rows)
        table.to_csv(path) if form == "csv" else table.to_json(path)
    done = map_files(MINILM, path, tmp_path / "out", part_size=3)
    assert failures_of(done) == [{"row": 3, "reason": "there is no text in this row"}]
    found = rows_of(done.folder)
    assert [{name: row[name] for name in ("id", "text", "tag")} for row in found] == [row for row in rows if row["id"] != 3]
    vectors = torch.tensor([row["vector"] for row in found])
    assert torch.allclose(vectors, bestiary.load(MINILM)(list(filter(None, TEXTS))), atol=1e-6)


def test_parquet_files_of_a_folder_are_one_table(tmp_path):
    folder = tmp_path / "tables"
    (folder / "b").mkdir(parents=True)
    pq.write_table(pa.table({"review": ["one", "two", "three"], "stars": [1, 2, 3]}), folder / "a.parquet", row_group_size=2)
    pq.write_table(pa.table({"review": ["four"], "label": ["good"]}), folder / "b" / "c.parquet")
    done = map_files(MINILM, folder, tmp_path / "out", columns=["review"], part_size=3)
    assert [len(part) for part in parts_of(done.folder).values()] == [3, 1]
    found = rows_of(done.folder, ["review", "stars", "label"])
    assert found[2:] == [{"review": "three", "stars": 3, "label": None}, {"review": "four", "stars": None, "label": "good"}]
    assert map_files(MINILM, folder / "*.parquet", tmp_path / "some", columns=["review"]).rows == 3


def test_a_table_of_paths_may_not_leave_its_folder(photos, tmp_path):
    shutil.copy(PHOTO, tmp_path / "secret.jpg")
    (photos / "list.csv").write_text(f"image,label\n0.jpg,cat\n../secret.jpg,x\n{tmp_path}/secret.jpg,x\nnone.jpg,x\n,x\n")
    done = map_files(LITE, photos / "list.csv", tmp_path / "out")
    (row,) = rows_of(done.folder)
    assert (row["image"], row["label"]) == ("0.jpg", "cat")
    assert row["result_label"] == bestiary.load(LITE)(photos / "0.jpg")[0].name
    reasons = [failure["reason"] for failure in failures_of(done)]
    assert "does not lie below" in reasons[0] and "does not lie below" in reasons[1] and "cannot be read" in reasons[2]
    assert reasons[3] == "there is no image in this row"


def test_images_as_bytes_are_not_written_again(photos, tmp_path):
    images = [{"bytes": (photos / f"{n}.jpg").read_bytes(), "path": f"{n}.jpg"} for n in range(4)]
    pq.write_table(pa.table({"image": images, "id": list("abcd")}), tmp_path / "images.parquet")
    done = map_files(LITE, tmp_path / "images.parquet", tmp_path / "out")
    assert [(row["row"], row["id"]) for row in rows_of(done.folder)] == [(0, "a"), (1, "b"), (3, "d")]
    assert "image" not in pq.read_table(done.folder).column_names
    assert failures_of(done)[0]["row"] == 2


def test_a_result_has_another_name_where_the_input_has_it():
    assert [field.name for field in result_fields({"label": str}, ["label", "text"])] == ["result_label"]
    with pytest.raises(InputError, match="result_label already"):
        result_fields({"label": str}, ["label", "result_label"])


# Refused


def test_input_that_cannot_be_mapped_is_refused_and_leaves_nothing(photos, texts, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "rows.jsonl").write_text('{"title": "a", "count": 1}\n')
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and then something else")
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "none.parquet")
    out = tmp_path / "out"
    for source, more, message in [
        ("empty", {}, "no texts in"),
        ("photos", {}, "no texts in"),
        ("absent", {}, "no file or folder"),
        ("rows.jsonl", {}, "no column 'text'\nname one with --column: title, count"),
        ("rows.jsonl", {"columns": ["count"]}, "'count' of .* holds int64"),
        ("rows.jsonl", {"columns": ["title", "title"]}, "takes text, not 2 columns"),
        ("broken.parquet", {}, "cannot be read as parquet"),
        ("none.parquet", {}, "holds no rows"),
        (texts.name, {"batch_size": 0}, "batch_size=0"),
        (texts.name, {"options": {"errors": "skip"}}, "errors is no option"),
        (texts.name, {"options": {"prompt": {1}}}, "options cannot be written down"),
    ]:
        with pytest.raises(InputError, match=message):
            map_files(MINILM, tmp_path / source, out, **more)
        assert not out.exists(), source
    with pytest.raises(UnknownModel):
        map_files("minilm-l7", texts, out)
    with pytest.raises(InputError, match="no images in"):
        map_files(LITE, texts, out)
    assert not out.exists()


def test_output_among_the_inputs_is_refused(texts, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n')
    for source, output in [(texts, texts), (texts, texts / "out"), (tmp_path / "rows.jsonl", tmp_path)]:
        with pytest.raises(InputError, match="where the inputs are"):
            map_files(MINILM, source, output)


def test_options_that_the_task_does_not_take_can_be_corrected(texts, tmp_path):
    for options, message in [({"top": 1}, "does not take these options"), ({"prompt": "none"}, "no prompt 'none'")]:
        with pytest.raises(InputError, match=message):
            map_files(MINILM, texts, tmp_path / "out", options=options)
    assert map_files(MINILM, texts, tmp_path / "out").rows == 6


def test_a_folder_of_something_else_is_refused(texts, photos, tmp_path):
    out = tmp_path / "out"
    map_files(MINILM, texts, out)
    changes = {"part_size": {"part_size": 5}, "options": {"options": {"prompt": None}}, "model": {"precision": "bf16"}}
    for change, more in changes.items():
        with pytest.raises(InputError, match=f"another run: it differs in {change}"):
            map_files(MINILM, texts, out, **more)
    (texts / "7.txt").write_text("one more")
    with pytest.raises(InputError, match="differs in input"):
        map_files(MINILM, texts, out)
    with pytest.raises(InputError, match="holds something else, such as 0"):
        map_files(MINILM, texts, photos)
    with pytest.raises(InputError, match="is a file"):
        map_files(MINILM, texts, photos / "notes.md")


# Resumed


def killed(command, folder, parts):
    """Start a process, and kill it once so many parts are there."""
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list(folder.glob("part-*"))) < parts and child.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL, "it ended before it could be killed"


def test_a_run_that_was_killed_goes_on_and_gives_the_same(photos, tmp_path, one_thread):
    for number in range(5, 60):
        shutil.copy(photos / f"{number % 2}.jpg", photos / f"{number}.jpg")
    out, whole = tmp_path / "out", map_files(LITE, photos, tmp_path / "whole", part_size=2)
    command = [sys.executable, "-m", "bestiary", "map", LITE, str(photos), str(out), "--part-size", "2"]
    killed(command, out, parts=2)
    assert not (out / "_failures.jsonl").exists()
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("part-*")}
    assert 2 <= len(before) < 30 and set(parts_of(out)) == set(before)
    (out / ".part-00029.parquet.0123.new").write_bytes(b"half")  # as a kill while writing leaves it
    (out / "part-00001.parquet").write_bytes(b"PAR1")  # a disk that lost what it had
    completed = subprocess.run([*command, "--json"], capture_output=True, encoding="utf-8", timeout=170)
    assert completed.returncode == 0, completed.stderr
    summary = json.loads(completed.stdout)["summary"]
    assert (summary["rows"], summary["failed"], summary["parts"], summary["kept"]) == (*whole[:3], len(before) - 1)
    after = {path.name: path.stat().st_mtime_ns for path in out.glob("part-*")}
    assert [name for name in before if after[name] != before[name]] == ["part-00001.parquet"]
    assert sorted(os.listdir(out)) == sorted(os.listdir(whole.folder))
    assert parts_of(out) == parts_of(whole.folder)
    assert (out / "_failures.jsonl").read_text() == whole.failures.read_text()


def test_a_finished_run_is_not_computed_again(texts, tmp_path):
    first = map_files(MINILM, texts, tmp_path / "out", part_size=4)
    times = {path.name: path.stat().st_mtime_ns for path in first.folder.iterdir()}
    again = map_files(MINILM, texts, tmp_path / "out", part_size=4)
    assert again.kept == 2 and again[:3] == first[:3]
    assert {path.name: path.stat().st_mtime_ns for path in first.folder.iterdir()} == times


def test_two_runs_do_not_write_to_one_folder(texts, tmp_path):
    seen = []

    class Rival:
        """An engine during whose work somebody types the same command."""

        def run(self, plan, numbers, advance):
            with pytest.raises(InputError, match="another run is writing"):
                map_files(MINILM, texts, tmp_path / "out")
            with pytest.raises(InputError, match="another run is writing"):
                map_files(MINILM, texts, tmp_path / "out", part_size=3)
            seen.extend(numbers)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        map_files(MINILM, texts, tmp_path / "out", engine=Rival())
    assert seen == [0] and map_files(MINILM, texts, tmp_path / "out").rows == 6


# Ray


@pytest.fixture(scope="module")
def cluster():
    """A real Ray on this machine, that tells nobody."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def one_thread(monkeypatch):
    """As many as Ray gives to an actor of one CPU, here and in processes: others round other sums."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def check_alike(ones, others):
    """The same parts but for how the last digits of numbers are rounded, as threads and processors do it differently."""
    assert ones.keys() == others.keys()
    for one, other in zip(ones.values(), others.values(), strict=True):
        assert one.schema == other.schema
        for name in one.column_names:
            found, expected = one[name].to_pylist(), other[name].to_pylist()
            if any(kind in str(one.schema.field(name).type) for kind in ("float", "double")):
                np.testing.assert_allclose(np.array(found, float), np.array(expected, float), atol=1e-5)
            else:
                assert found == expected


def test_ray_makes_the_same_parts(photos, texts, cluster, one_thread, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"text": text or None}) + "\n" for text in TEXTS))
    for model, source, options in [(LITE, photos, {"top": 2}), (MINILM, rows, {})]:
        local = map_files(model, source, tmp_path / f"local-{model}", part_size=2, options=options)
        spread = map_files(model, source, tmp_path / f"ray-{model}", part_size=2, options=options, engine=Ray(concurrency=2))
        assert spread[:4] == local[:4]
        assert spread.failures.read_text() == local.failures.read_text()
        check_alike(parts_of(spread.folder), parts_of(local.folder))
    assert ray.is_initialized()


def test_ray_takes_up_what_another_engine_began_and_raises_our_errors(texts, cluster, tmp_path):
    out = tmp_path / "out"
    map_files(MINILM, texts, out, part_size=2)
    (out / "part-00001.parquet").unlink()
    done = map_files(MINILM, texts, out, part_size=2, engine=Ray())
    assert (done.rows, done.kept) == (6, 2)
    with pytest.raises(InputError, match="does not take these options"):
        map_files(MINILM, texts, tmp_path / "other", options={"top": 1}, engine=Ray())
