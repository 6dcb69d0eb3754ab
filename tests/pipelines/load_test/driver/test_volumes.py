import pytest

from scoreline.lake.files.dataset import list_dataset
from scoreline.pipelines.load_test.driver.volumes import make_volume
from scoreline.pipelines.options.problems import BadOptions


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (
            ["2024-02-28", "2024-03-01"],  # a span of three days in a leap year
            ["2024-02-28", "2024-03-01", "2024-03-02", "2024-03-04", "2024-03-05", "2024-03-07"],
        ),
        (["7", "9"], ["10", "12", "13", "15", "7", "9"]),
        (["eu", "us"], ["eu", "eu-copy-1", "eu-copy-2", "us", "us-copy-1", "us-copy-2"]),
        (["07", "9"], ["07", "07-copy-1", "07-copy-2", "9", "9-copy-1", "9-copy-2"]),
    ],
)
def test_each_copy_has_partitions_of_its_own(tmp_path, values, names):
    for value in values:
        folder = tmp_path / "lake" / "region=a%2Fb" / f"day={value}"
        folder.mkdir(parents=True)
        (folder / "rows.jsonl").write_text(value)
    found = list_dataset(str(tmp_path / "lake"), [])
    make_volume(str(tmp_path / "lake"), found.partitions, 3, tmp_path / "three")
    copied = list_dataset(str(tmp_path / "three"), [])
    assert [p.values[0] for p in copied.partitions] == [("region", "a/b")] * len(names)
    assert sorted(p.values[1][1] for p in copied.partitions) == names
    read = sorted(p.read_text() for p in (tmp_path / "three").rglob("*.jsonl"))
    assert read == sorted(values * 3)


@pytest.mark.parametrize("root", ["gs://lake/flights", "nowhere"])
def test_another_dataset_than_a_local_folder_is_refused(tmp_path, root):
    with pytest.raises(BadOptions, match="volumes: expected a folder of hive partitions on this"):
        make_volume(root, [], 4, tmp_path)


def test_a_delta_table_is_refused(tmp_path):
    (tmp_path / "_delta_log").mkdir()
    with pytest.raises(BadOptions, match="Copy some partitions to a local folder"):
        make_volume(str(tmp_path), [], 4, tmp_path / "volume")
