"""Names of partitions and files that point outside the table, and secrets in messages."""

from __future__ import annotations

import pytest
from deltalake import DeltaTable

from scoreline.pipelines import score_batch, table
from tests.fakes import assert_scored_whole, make_rows, read_scores, write_file

VALUES = {
    "date=..": "..",
    "date=..%2F..%2Fescaped": "../../escaped",
    "date=%2Fescaped": "/escaped",
    "date=a%5C..%5Cb": "a\\..\\b",
    "date=_delta_log": "_delta_log",
    "date=C%3A": "C:",
}


def files_below(root):
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_names_that_lead_elsewhere_stay_in_the_table(tmp_path, model, capsys):
    lake = tmp_path / "in" / "lake"
    names = ["x%2F..%2F..%2Fx.parquet", "x\\..\\x.parquet", "a b;$(touch x).parquet"]
    for number, folder in enumerate(VALUES):
        write_file(lake, folder, names[number % 3], make_rows(number * 10, 10))
    before = files_below(tmp_path)
    output = tmp_path / "out" / "deep" / "scores"
    options = [f"--input={lake}", f"--model={model}", "--keys=id", f"--output={output}"]
    # Scores above 15 become dead letters, which have their own folders.
    code = score_batch.main([*options, "--range=score=0..15", "--max_dead_letter_ratio=1"])
    told = "".join(capsys.readouterr())
    assert code in (0, 1, 3), told
    new = files_below(tmp_path) - before
    roots = ("out/deep/scores/", "out/deep/scores_dead_letters/")
    assert new
    assert [path for path in new if not path.startswith(roots)] == []
    assert not [path for path in new if ".." in path.split("/")]
    refused = [value for folder, value in VALUES.items() if f"{folder} failed: " in told]
    held = {row["date"] for row in read_scores(output).to_pylist()}
    assert held | set(refused) == set(VALUES.values()), told
    assert len(held) >= 5
    assert table.main(["verify", f"--output={output}"]) == 0
    assert {file.rsplit("/", 1)[-1][:5] for file in DeltaTable(str(output)).file_uris()} == {
        "part-"
    }
    for path in list(new):
        assert "$(" not in path


def test_a_value_whose_folder_has_too_long_a_name_fails_its_partition_before_it_is_scored(
    score, tmp_path
):
    write_file(tmp_path / "lake", f"p={':' * 120}", "0.parquet", make_rows(0, 5))
    write_file(tmp_path / "lake", "p=a:b", "0.parquet", make_rows(5, 5))
    ended = score(input=tmp_path / "lake")
    assert ended.code == 1
    assert "a name of at most 255 bytes, got 362 bytes" in ended.out + ended.err
    assert {row["p"] for row in read_scores(tmp_path / "scores").to_pylist()} == {"a:b"}


@pytest.mark.parametrize("name", ["a#b", "a?b", "a%20b", "a\\b", "a\nb"])
def test_a_table_where_delta_lake_would_not_find_it_is_not_begun(score, tmp_path, name):
    ended = score(output=tmp_path / name / "scores")
    assert ended.code == 2
    assert "--output: expected a path without #, ?, backslashes" in ended.err
    assert not (tmp_path / name).exists()


SECRETS = ("hunter2", "hunter3")


@pytest.mark.parametrize(
    "flags",
    [
        ["--db_password=hunter2", "--api_token", "hunter3"],
        ["--runner=PrismRunner", "--db_password=hunter2"],
        ["--input=gs://lake/rows?access_token=hunter2", "--output=s3://user:hunter3@lake/scores"],
        ["--output=gs://lake/scores?sig=hunter2&x=1"],
    ],
)
def test_secrets_on_the_command_line_are_refused_and_not_repeated(score, caplog, flags):
    ended = score(*flags, **{flag.split("=")[0][2:]: None for flag in flags if "=" in flag})
    assert ended.code == 2
    told = ended.out + ended.err + caplog.text
    assert not [secret for secret in SECRETS if secret in told], told
    for flag in flags:
        if flag.startswith("--") and "runner" not in flag:
            assert flag.split("=")[0] in told


def test_a_table_at_a_place_with_a_secret_is_refused_without_it(capsys):
    assert table.main(["status", "--output=s3://user:hunter2@lake/scores"]) == 2
    told = "".join(capsys.readouterr())
    assert "--output: expected a URI without a secret" in told
    assert "hunter2" not in told


def test_nothing_that_was_asked_for_by_value_is_recorded_but_what_the_commit_needs(
    tmp_path, lake, model
):
    output = tmp_path / "scores"
    options = [f"--input={lake}", f"--model={model}", "--keys=id", f"--output={output}"]
    # A Beam option may hold a secret. Scoreline must not write it anywhere.
    assert score_batch.main([*options, "--fill=x=1", "--service_account_email=hunter2"]) == 0
    assert_scored_whole(lake, output)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written
    assert [path for path in written if b"hunter2" in path.read_bytes()] == []
