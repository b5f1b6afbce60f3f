"""Readers of instruction libraries, and what they refuse."""

import gzip
import io
import json
import tarfile
import zipfile

import pytest

from shared.data.instruction_tasks import Instance, read_tasks
from shared.jobs.errors import InvalidInput

YAML = """dataset: super_glue
subset: rte
templates:
  id-2: !Template
    answer_choices: Yes ||| No
    id: id-2
    jinja: "{{premise}} So {{hypothesis}}? ||| {{answer_choices[label]}}"
    metadata: !TemplateMetadata
      choices_in_prompt: false
      original_task: true
    name: so
  id-1: !Template
    jinja: Write a premise for {{hypothesis}}
    metadata: !TemplateMetadata
      original_task: false
    name: back
"""
NATURAL = {
    "Definition": ["Sort the list."], "Categories": ["Program Execution"], "Source": ["synthetic"],
    "Input_language": ["English"], "Domains": ["Mathematics"],
    "Positive Examples": [{"input": "[2, 1]", "output": ["1, 2"]}], "Instances": [{}, {}],
}  # fmt: skip


def read(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_tasks(path, "library")


def line(**record):
    return json.dumps({"id": "a", "instructions": ["Sort."], **record}) + "\n"


def test_a_task_keeps_all_that_is_said_of_it(tmp_path):
    about = {"category": "c", "dataset": "d", "source": "s", "languages": ["English"], "split": "train",
             "example": {"input": "2 1", "output": "1 2"}, "n_examples": 7, "licence": "mine"}  # fmt: skip
    (task,) = read(tmp_path / "x", line(**about, instances=[{"input": "1", "output": "1"}]))
    assert (task.category, task.dataset, task.source, task.split, task.n_examples) == ("c", "d", "s", "train", 7)
    assert task.languages == ("English",)
    assert task.example.text == "2 1\nOutput: 1 2"
    assert task.instances == (Instance("1", "1"),)
    assert task.further == {"licence": "mine"}


def test_gzip_byte_order_mark_and_blank_lines_are_read(tmp_path):
    text = ("\ufeff" + line() + "\n" + line(id="b")).encode()
    assert [task.id for task in read(tmp_path / "plain", text)] == ["a", "b"]
    assert [task.id for task in read(tmp_path / "packed", gzip.compress(text))] == ["a", "b"]


def test_csv_rows_of_one_id_are_one_task(tmp_path):
    text = 'task_id,instruction,category\na,"Sort, please",x\nb,Add,\na,"Order\nthem",x\n'
    tasks = read(tmp_path / "x", text)
    assert [(task.id, len(task.templates), task.category) for task in tasks] == [("a", 2, "x"), ("b", 1, None)]
    assert tasks[0].templates[1].text == "Order\nthem"


def test_further_columns_of_a_csv_are_kept(tmp_path):
    text = "task_id,instruction,dataset,split,licence\na,Sort,numbers,train,mit\na,Order,numbers,train,\nb,Add,,,\n"
    first, second = read(tmp_path / "x", text)
    assert (first.dataset, first.split, first.further) == ("numbers", "train", {"licence": "mit"})
    assert (second.dataset, second.split, second.further) == (None, None, {})


def packed_tar(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def packed_zip(files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


FILES = {"t/super_glue/rte/templates.yaml": YAML.encode(), "tasks/task001_sort.json": json.dumps(NATURAL).encode()}


@pytest.mark.parametrize("pack", [packed_tar, packed_zip])
def test_trees_are_read_from_archives(tmp_path, pack):
    sort, rte = sorted(read(tmp_path / "x", pack(FILES)), key=lambda task: task.id)
    assert (rte.id, rte.dataset, rte.source) == ("p3/super_glue/rte", "super_glue", "p3")
    assert [(t.style, t.original) for t in rte.templates] == [("jinja", False), ("jinja", True)]
    assert (sort.id, sort.category, sort.dataset, sort.n_examples) == (
        "niv2/task001_sort", "Program Execution", "synthetic", 2)  # fmt: skip
    assert sort.example == Instance("[2, 1]", "1, 2")
    assert sort.further["domains"] == ["Mathematics"]


def test_trees_are_read_from_folders(tmp_path):
    for name, data in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    assert {task.id for task in read_tasks(tmp_path, "x")} == {"p3/super_glue/rte", "niv2/task001_sort"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(line() + line(), r"line 2: task id 'a' is also at library line 1", id="duplicate-id"),
        pytest.param(line(instructions=["Sort.", " "]), r"line 1: instruction 2 of 2 is empty", id="empty-instruction"),
        pytest.param(line(instructions=[]), r"line 1: the task has no instruction", id="no-instruction"),
        pytest.param(line(instructions="Sort"), r"line 1: give instructions", id="no-list"),
        pytest.param(line() + line(id=7), r"line 2: id is 7", id="id-is-a-number"),
        pytest.param(line() + "{oops\n", r"line 2 is no JSON", id="no-json"),
        pytest.param(line() + "[1]\n", r"line 2 is no JSON object", id="no-object"),
        pytest.param(line().encode() + b'{"id": "b\xe4"}\n', r"line 2 is not UTF-8: byte 0xe4", id="latin-1"),
        pytest.param(line(instructions=["a\x00b"]), r"holds a NUL", id="nul"),
        pytest.param(line(instructions=["\ud800"]), r"half a character", id="lone-surrogate"),
        pytest.param(line(languages=3), r"languages is 3", id="languages"),
        pytest.param(line(n_examples=-1), r"n_examples is -1", id="n_examples"),
        pytest.param(line(example={"input": "x"}), r"example must be", id="example"),
        pytest.param(line(instances={}), r"instances must be a list", id="instances"),
        pytest.param(line(instructions=None, templates=[{"x": 1}]), r"template 1 has neither", id="template"),
        pytest.param("", r"is no library", id="empty-file"),
        pytest.param("name,text\n", r"is no library", id="other-csv"),
        pytest.param("task_id,instruction\na,b,c\n", r"line 2 has another number of columns", id="columns"),
        pytest.param(
            "task_id,instruction,dataset\na,Sort,x\na,Order,y\n",
            "line 3: task 'a' has dataset 'y'",
            id="two-data-sets",
        ),
        pytest.param("task_id,instruction\na,\n", r"line 2: instruction 1 of 1 is empty", id="empty-csv"),
        pytest.param("task_id,instruction,category\na,b,x\na,c,y\n", r"line 3: .* category 'y'", id="two-categories"),
        pytest.param(packed_zip({"readme.json": b"{}"}), r"holds neither templates.yaml", id="empty-tree"),
        pytest.param(packed_zip({"templates.yaml": b"a: ["}), r"is no YAML", id="no-yaml"),
        pytest.param(packed_zip({"templates.yaml": b"a: 1"}), r"lacks dataset", id="other-yaml"),
        pytest.param(packed_zip({"task1.json": b"{"}), r"is no JSON", id="tree-no-json"),
        pytest.param(gzip.compress(line().encode())[:-12], r"damaged gzip", id="cut-gzip"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path, text, said):
    with pytest.raises(InvalidInput, match=said):
        read(tmp_path / "x", text)
