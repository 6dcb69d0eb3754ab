"""Text files as users have them: each is scored with the values it has, or fails by name."""

from __future__ import annotations

import datetime

import pytest

from scoreline.pipelines import replay
from tests.fakes import read_scores
from tests.inputs import write_bytes

INSTANT = datetime.datetime(2024, 3, 31, 1, 30, tzinfo=datetime.UTC)
CSV = b"id,x,n,s,note,at\n"
CSV_ROW = b"1,0.5,2,a,plain,2024-03-31T02:30:00+01:00\n"
# The text of a day's file, and the notes of its rows.
SOUND_CSV = {
    "empty": (b"", []),
    "white space": (b" \r\n\n", []),
    "header only": (CSV.strip(), []),
    "byte order mark and CRLF": (
        b"\xef\xbb\xbf" + (CSV + CSV_ROW).replace(b"\n", b"\r\n"),
        ["plain"],
    ),
    "another order, and further columns": (
        b"at,more,n,s,note,x,id\n2024-03-31T01:30Z,?,2,a,plain,0.5,1\n",
        ["plain"],
    ),
    "escaped marks": (
        CSV + CSV_ROW.replace(b"plain", b'"pipe 12\\""') + CSV_ROW,
        ['pipe 12"', "plain"],
    ),
    "inch mark": (CSV + CSV_ROW.replace(b"plain", b'pipe 12"'), ['pipe 12"']),
    "backslash": (CSV + CSV_ROW.replace(b"plain", b"C:\\temp"), ["C:\\temp"]),
}
BAD_CSV = {
    "mark in the wrong place": (
        b"plain",
        b'"a"b',
        "row 3: a quotation mark that ends a field must",
    ),
    "mark that is not closed": (b"plain", b'"plain', "row 3: a quoted field never ends"),
    "code as a key": (b"1,0.5", b"007,0.5", "row 3, column 'id': expected int64, got '007', which"),
    "large key": (b"1,", b"9223372036854775808,", "row 3, column 'id': expected int64, got '9223"),
    "rounded": (b"0.5", b"9007199254740993", "row 3, column 'x': expected a whole number that"),
    "infinite": (b"0.5", b"1e400", "row 3, column 'x': expected a number that double holds"),
    "no zone": (b"+01:00", b"", "row 3, column 'at': expected timestamp[s, tz=UTC], with a zone"),
    "text": (b",2,", b",two,", "row 3, column 'n': expected int64, got 'two'"),
    "further field": (b"plain", b"a,b", "row 3: expected 6 fields, as in the header, got 7"),
    "UTF-16": (None, (CSV + CSV_ROW).decode().encode("utf-16"), "expected UTF-8 text, got UTF-16"),
}
JSON_ROW = b'{"id": 1, "x": 0.5, "n": 2, "s": "a", "user": {"name": "Zo\xc3\xab"}}\n'
SOUND_JSON = {
    "empty": (b"", 0),
    "byte order mark": (b"\xef\xbb\xbf" + JSON_ROW, 1),
    "CRLF and blank lines": (b"\r\n" + JSON_ROW.replace(b"\n", b"\r\n\r\n") + JSON_ROW.strip(), 2),
    "further key": (JSON_ROW.replace(b'"id"', b'"more": [1], "id"'), 1),
}
BAD_JSON = {
    "further key in a kept object": (
        b'"name"',
        b'"zip": 1, "name"',
        "column 'user': expected only",
    ),
    "rounded": (b"0.5", b"9007199254740993", "column 'x': expected a whole number that double"),
    "infinite": (b"0.5", b"1e400", "column 'x': expected a number that double holds"),
    "infinity": (b"0.5", b"Infinity", "column 'x': expected double, got Infinity"),
    "large key": (b"1,", b"9223372036854775808,", "column 'id': expected int64, got 9223"),
    "key twice": (b'"id": 1', b'"id": 1, "id": 2', "expected key 'id' once, got it twice"),
    "line of null": (JSON_ROW.strip(), b"null", "expected an object, got null"),
    "two objects": (JSON_ROW.strip(), JSON_ROW.strip() * 2, "expected an object in JSON, got '{"),
    "another encoding": (b"\xc3\xab", b"\xeb", "expected UTF-8"),
}


def days_of(root, suffix, first, cases):
    """Write a case for each day of February, after sixteen sound days; return them by case."""
    for day in range(1, 17):  # of these the schema is inferred
        write_bytes(root / f"date=2024-01-{day:02}" / f"0.{suffix}", first)
    days = {case: f"date=2024-02-{day:02}" for day, case in enumerate(cases, 1)}
    for case, day in days.items():
        write_bytes(root / day / f"0.{suffix}", cases[case])
    return days


def texts_of(sound, bad, good_row):
    """Return the text of each case: a bad one has its value in the second of three rows."""
    header, row = good_row
    spoiled = {
        case: after if before is None else header + row + row.replace(before, after, 1) + row
        for case, (before, after, _) in bad.items()
    }
    return {case: text for case, (text, _) in sound.items()} | spoiled


def test_each_day_of_csv_is_scored_as_it_is_or_fails_by_file_and_row(score, tmp_path):
    cases = texts_of(SOUND_CSV, BAD_CSV, (CSV, CSV_ROW))
    days = days_of(tmp_path / "in", "csv", CSV + CSV_ROW, cases)

    ended = score(
        "--keep=note,at", "--columns=x=float32(x)", "--csv_escape=\\", input=tmp_path / "in"
    )

    assert ended.code == 1, ended
    for case, (_, _, problem) in BAD_CSV.items():
        file = tmp_path / "in" / days[case] / "0.csv"
        assert f"{days[case]} failed: file {file} cannot be read: {problem}" in ended.out, case
    rows = read_scores(tmp_path / "scores").to_pylist()
    for case, (_, notes) in SOUND_CSV.items():
        found = [row for row in rows if f"date={row['date']}" == days[case]]
        assert sorted(row["note"] for row in found) == sorted(notes), case
        assert {row["at"] for row in found} <= {INSTANT}
        assert {row["score"] for row in found} <= {2 * 0.5 + 3 * 2 + 1}
    assert len(rows) == 16 + sum(len(notes) for _, notes in SOUND_CSV.values())


def test_each_day_of_json_is_scored_as_it_is_or_fails_by_file_and_line(score, tmp_path):
    cases = texts_of(SOUND_JSON, BAD_JSON, (b"", JSON_ROW))
    days = days_of(tmp_path / "in", "jsonl", JSON_ROW, cases)

    ended = score("--keep=user", "--columns=x=float32(x)", input=tmp_path / "in")

    assert ended.code == 1, ended
    for case, (_, _, problem) in BAD_JSON.items():
        file = tmp_path / "in" / days[case] / "0.jsonl"
        reason = f"{days[case]} failed: file {file} cannot be read: line 2: {problem}"
        assert reason in ended.out, case
    rows = read_scores(tmp_path / "scores").to_pylist()
    for case, (_, count) in SOUND_JSON.items():
        assert sum(f"date={row['date']}" == days[case] for row in rows) == count, case
    assert all(row["user"] == {"name": "Zoë"} for row in rows)
    assert len(rows) == 16 + sum(count for _, count in SOUND_JSON.values())


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_dead_letter_of_a_text_file_is_replayed_with_the_values_of_its_file(
    score, tmp_path, model, suffix
):
    file = tmp_path / "in" / "date=2024-01-01" / f"0.{suffix}"
    key, at = 9_007_199_254_740_993, "2024-03-31T02:30:00+01:00"
    text = {
        "csv": f'id,x,n,s,note,at\n{key},,2,a,"12\\"",{at}\n2,1,2,a,,{at}\n',
        "jsonl": f'{{"id": {key}, "n": 2, "s": "a", "note": "12\\"", "at": "{at}"}}\n'
        f'{{"id": 2, "x": 1, "n": 2, "s": "a", "at": "{at}"}}\n',
    }[suffix]
    write_bytes(file, text.encode())
    schema = tmp_path / "types.json"
    schema.write_text(
        '{"id": "int64", "x": "float32", "n": "int64", "s": "string", "note": "string", '
        '"at": "timestamp[us, tz=UTC]"}'
    )
    flags = ["--keep=note,at", f"--schema={schema}", "--max_dead_letter_ratio=0.5"]
    flags += ["--csv_escape=\\"] if suffix == "csv" else []
    assert score(*flags, input=tmp_path / "in").code == 3
    output = tmp_path / "scores"
    again = [f"--output={output}", f"--model={model}", "--keys=id", "--keep=note,at"]
    assert replay.main([*again, "--fill=x=0"]) == 0
    row = next(row for row in read_scores(output).to_pylist() if row["id"] == key)
    assert (row["note"], row["at"], row["score"]) == ('12"', INSTANT, 3 * 2 + 1)
