"""Bytes to an unchecked table: kind, encoding, separator, header, row numbers, columns."""

from __future__ import annotations

import codecs
import io
import zipfile
import zlib

import polars as pl
import pytest
import xlsxwriter

from ml.decoding import to_utf8
from ml.errors import FileRefused
from ml.reading import FIELD_LIMIT, match_columns, read_table, safe_name
from ml.records import Finding, ReadOptions
from ml.vocabulary import meaning_of, plain_name

PLAIN = b"date,store,sales\n2026-01-01,a,3\n2026-01-02,b,4\n"


def refusal(data: bytes, **options: str) -> Finding:
    with pytest.raises(FileRefused) as caught:
        read_table(data, "a.csv", ReadOptions(**options))  # type: ignore[arg-type]
    found = caught.value.facts["finding"]
    assert isinstance(found, Finding)
    assert found.message in str(caught.value)
    return found


def codes(data: bytes) -> list[str]:
    return [found.code for found in read_table(data, "a.csv").findings]


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("../../etc/passwd.csv", "passwd.csv"),
        ("C:\\Users\\me\\ventas 2026.xlsx", "ventas 2026.xlsx"),
        ("/absolute/año.csv", "año.csv"),
        ("..", "upload"),
        ("", "upload"),
        (".htaccess", "htaccess"),
        ("a\x00b\n.csv", "a_b_.csv"),
        ("\u202egnp.csv", "_gnp.csv"),
        ('<script>"x".csv', "_script__x_.csv"),
        ("a//b//c.csv", "c.csv"),
        ("..\\..\\x.csv", "x.csv"),
    ],
)
def test_safe_name(given, kept):
    assert safe_name(given) == kept


def test_safe_name_is_short_and_keeps_its_ending():
    name = safe_name("x" * 500 + ".parquet")
    assert len(name) <= 120
    assert name.endswith(".parquet")


# ---------------------------------------------------------------- kind


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x1f\x8b\x08\x00\x00", "file_compressed"),
        (b"BZh91AY&SY", "file_compressed"),
        (b"\xfd7zXZ\x00\x00", "file_compressed"),
        (b"\x28\xb5\x2f\xfd\x00", "file_compressed"),
        (b"7z\xbc\xaf\x27\x1c", "file_compressed"),
        (b"Rar!\x1a\x07\x00", "file_compressed"),
        (b"%PDF-1.7\n", "file_not_table"),
        (b"\x89PNG\r\n\x1a\n", "file_not_table"),
        (b"\xff\xd8\xff\xe0JFIF", "file_not_table"),
        (b"SQLite format 3\x00", "file_not_table"),
        (b"\x7fELF\x02", "file_not_table"),
        (bytes(range(256)) * 4, "file_not_table"),
        (b"  <html><table></table></html>", "file_not_table"),
        (b"\xef\xbb\xbf<!DOCTYPE html>", "file_not_table"),
        ("<html></html>".encode("utf-16"), "file_not_table"),
        (b'<?xml version="1.0"?><a/>', "file_not_table"),
        (b'{"date": "2026-01-01"}', "file_not_table"),
        (b'[{"date": 1}]', "file_not_table"),
        (b"{\\rtf1 text}", "file_not_table"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "file_old_excel"),
        (b"PK\x03\x04 cut off", "file_damaged"),
        (b"", "file_empty"),
        (b"\r\n \t\r\n", "file_blank"),
    ],
)
def test_what_is_no_table_is_refused(data, code):
    assert refusal(data).code == code


@pytest.mark.parametrize(
    ("entry", "code", "word"),
    [
        ("a.csv", "file_compressed", "zip"),
        ("word/document.xml", "file_not_table", "Word"),
        ("content.xml", "file_not_table", "OpenDocument"),
    ],
)
def test_zip_files_are_told_apart(entry, code, word):
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr(entry, "x")
    found = refusal(target.getvalue())
    assert (found.code, word in found.message) == (code, True)


def test_workbook_that_lies_about_its_size_is_refused(monkeypatch):
    """The central directory claims a few bytes; only the stream itself tells that it would not end."""
    monkeypatch.setattr("ml.workbook._WORKBOOK_LIMIT", 4 << 20)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(b" " * (8 << 20)) + packer.flush()
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
        archive.writestr("xl/worksheets/sheet1.xml", packed)
    data = bytearray(target.getvalue())
    at = data.rindex(b"PK\x01\x02")  # the last entry of the directory is the sheet
    data[at + 10 : at + 12] = (8).to_bytes(2, "little")  # "deflated"
    data[at + 24 : at + 28] = (100).to_bytes(4, "little")  # and only 100 bytes
    assert refusal(bytes(data)).code == "file_too_large_inside"


def test_what_the_bytes_are_counts_not_the_name():
    target = io.BytesIO()
    pl.DataFrame({"date": ["2026-01-01"], "sales": [3]}).write_parquet(target)
    assert read_table(target.getvalue(), "a.csv").format == "parquet"
    assert read_table(PLAIN, "a.xlsx").format == "csv"


# ---------------------------------------------------------------- encoding

ACCENTS = "date,tienda,sales\n2026-01-01,Logroño – «café» €,3\n"


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (ACCENTS.encode(), "utf-8"),
        (ACCENTS.encode("utf-8-sig"), "utf-8"),
        (ACCENTS.encode("utf-16"), "utf-16"),
        (codecs.BOM_UTF16_BE + ACCENTS.encode("utf-16-be"), "utf-16"),
        (ACCENTS.encode("utf-32"), "utf-32"),
        (ACCENTS.encode("utf-16-le"), "utf-16-le"),
        (ACCENTS.encode("utf-16-be"), "utf-16-be"),
        (ACCENTS.encode("cp1252"), "cp1252"),
        (ACCENTS.replace("– «café» €", "y Cádiz").encode("cp850"), "cp850"),
    ],
)
def test_encodings(data, encoding):
    table = read_table(data, "a.csv")
    assert table.dialect.encoding == encoding
    assert table.frame["tienda"][0].startswith("Logroño")
    said = {found.code for found in table.findings} & {"encoding_detected", "byte_order_mark"}
    assert bool(said) == (data != ACCENTS.encode())


def test_other_alphabets_are_recognised_from_enough_text():
    text = "date,store,sales\n" + "2026-01-01,Магазин на улице Ленина продукты питания,3\n" * 5
    table = read_table(text.encode("cp1251"), "a.csv")
    assert table.frame["store"][0] == "Магазин на улице Ленина продукты питания"


def test_chosen_encoding_wins():
    data = "date,store,sales\n2026-01-01,é,3\n".encode("cp1252")
    assert read_table(data, "a.csv", ReadOptions(encoding="cp437")).frame["store"][0] == "Θ"
    assert refusal(data, encoding="zip").code == "encoding_unknown"
    assert refusal(data, encoding="ascii").code == "encoding_mismatch"


def test_a_few_broken_bytes_cost_their_rows_only():
    data = "date,store,sales\n2026-01-01,café,3\n2026-01-02,b,4\n".encode().replace(b",b,", b",b\xff,")
    table = read_table(data, "a.csv")
    assert table.dialect.encoding == "utf-8"
    assert table.frame["store"].to_list() == ["café"]
    assert table.bad_rows.select("row", "column", "code").row(0) == (3, "store", "encoding_invalid")


@pytest.mark.parametrize("cut", [b"caf\xc3,", b"\xff\xfe,", b"x\xfe\xfe,"])
def test_bytes_that_no_encoding_explains_are_damage(cut):
    assert to_utf8(b"date,store,sales\n2026-01-01," + cut + b"3\n", None).damaged


# ---------------------------------------------------------------- separator, header, rows


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_separators(separator):
    table = read_table(PLAIN.replace(b",", separator.encode()), "a.csv")
    assert table.dialect.separator == separator
    assert table.frame.shape == (2, 3)
    assert ("separator_detected" in {found.code for found in table.findings}) == (separator != ",")


def test_decimal_commas_do_not_look_like_separators():
    table = read_table(b"date;price;sales\n2026-01-01;9,99;3,5\n2026-01-02;8,99;4,5\n", "a.csv")
    assert table.frame.row(0) == ("2026-01-01", "9,99", "3,5")


def test_hidden_separator_line_of_spreadsheets():
    table = read_table(b"sep=;\r\ndate;sales\r\n2026-01-01;3\r\n", "a.csv")
    assert table.frame.columns == ["date", "sales"]
    assert table.rows.to_list() == [3]


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_line_ends(line_end):
    table = read_table(PLAIN.replace(b"\n", line_end), "a.csv")
    assert table.frame["sales"].to_list() == ["3", "4"]
    assert table.rows.to_list() == [2, 3]
    assert table.findings == ()


def test_cells_keep_their_text():
    table = read_table(b'date,store,sales\n2026-01-01,"a ""b""\n, c",03.50\n', "a.csv")
    assert table.frame.row(0) == ("2026-01-01", 'a "b"\n, c', "03.50")
    assert set(table.frame.dtypes) == {pl.String}


def test_row_numbers_count_what_a_spreadsheet_shows():
    rows = [
        "date,store,sales",
        "",
        '2026-01-01,"a\n\nb",3',
        "2026-01-02,b",
        "   ",
        "2026-01-03,c,4",
        "2026-01-04,d,5,6",
    ]
    table = read_table("\n".join(rows).encode(), "a.csv")
    assert table.rows.to_list() == [3, 6]
    assert table.bad_rows.select("row", "code").rows() == [(4, "row_too_short"), (7, "row_too_long")]
    assert table.bad_rows["sales"].to_list() == [None, "5,6"]


def test_row_numbers_across_blocks():
    """Files larger than one block of the parser are numbered through."""
    good = "2026-01-01,some shop with a long name,3\n"
    lines = [good] * 300_000
    for at in (10, 150_000, 299_999):
        lines[at] = "2026-01-01,short\n"
    table = read_table(("date,store,sales\n" + "".join(lines)).encode(), "a.csv")
    assert table.bad_rows["row"].to_list() == [12, 150_002, 300_001]
    assert table.frame.height == 299_997
    assert table.rows.sum() + table.bad_rows["row"].sum() == sum(range(2, 300_002))


def test_a_row_longer_than_a_block():
    big = "x" * 6_000_000
    table = read_table(f"date,store,sales\n2026-01-01,{big},3\n2026-01-02,b,4\n".encode(), "a.csv")
    assert table.frame["store"].to_list() == ["b"]
    assert table.bad_rows.select("row", "column", "code").row(0) == (2, "store", "field_too_long")
    assert str(FIELD_LIMIT) in table.bad_rows["reason"][0]


@pytest.mark.parametrize(
    "body",
    [
        '2026-01-01,"a,3\n2026-01-02,b,4\n',
        '2026-01-01,a,3\n2026-01-02,"b,4\n2026-01-03,c,5\n2026-01-04,"d,6\n2026-01-05,e,7\n',
        '2026-01-01,"a,3\n2026-01-02,b"b,4\n',
    ],
)
def test_a_quote_that_swallows_rows_refuses_the_file(body):
    assert refusal(("date,store,sales\n" + body).encode()).code == "unclosed_quote"


def test_quotes_inside_text_are_text():
    table = read_table(b'date,store,sales\n2026-01-01,TV 32" new,3\n2026-01-02,b,4\n', "a.csv")
    assert table.frame["store"].to_list() == ['TV 32" new', "b"]


def test_trailing_separators_make_no_column():
    data = b"date,store,sales,,\n2026-01-01,a,3,,\n"
    assert read_table(data, "a.csv").frame.columns == ["date", "store", "sales"]
    assert codes(data) == ["trailing_separator"]
    assert codes(b"date,store,sales\n2026-01-01,a,3,\n2026-01-02,a,3,\n") == ["trailing_separator"]


def test_lines_above_the_header_are_skipped_and_said():
    table = read_table(b"Sales report;;\nAll shops;;\n\nFecha;Tienda;Ventas\n2026-01-01;a;3\n", "a.csv")
    assert table.frame.columns == ["Fecha", "Tienda", "Ventas"]
    assert table.rows.to_list() == [5]
    said = next(found for found in table.findings if found.code == "preamble_skipped")
    assert (said.count, said.facts["sample"]) == (2, "Sales report;;")


def test_a_padded_title_is_no_header_even_if_the_names_are_unheard_of():
    table = read_table(
        b"Ventas;;;\nImpreso el;03/08/2026;;\n;;;\nC1;C2;C3;C4\n01/02/2026;a;b;3\n02/02/2026;a;b;4\n", "a.csv"
    )
    assert table.frame.columns == ["C1", "C2", "C3", "C4"]
    assert table.rows.to_list() == [5, 6]


def test_a_column_of_dates_is_the_date_whatever_its_name_says():
    table = read_table("Día venta;Cant.\n01/02/2026;3\n02/02/2026;4\n".encode(), "a.csv")
    assert match_columns(table)[1].roles == {"date": "Día venta", "sales": "Cant."}


def test_columns_without_a_name_get_one():
    table = read_table(b",date,sales\n0,2026-01-01,3\n1,2026-01-02,4\n", "a.csv")
    assert table.frame.columns == ["column_1", "date", "sales"]


# ---------------------------------------------------------------- XLSX


def workbook(**sheets: list[list[object]]) -> bytes:
    target = io.BytesIO()
    book = xlsxwriter.Workbook(target)
    for name, rows in sheets.items():
        sheet = book.add_worksheet(name)
        for at, cells in enumerate(rows):
            for column, cell in enumerate(cells):
                if cell is not None:
                    sheet.write(at, column, cell)
    book.close()
    return target.getvalue()


def test_the_sheet_that_says_most_is_read():
    data = workbook(
        Cover=[["A report"]], Data=[["Sales of 2026"], [], ["date", "sales"], ["2026-01-01", 3]], Notes=[["x"]]
    )
    table = read_table(data, "a.xlsx")
    assert table.dialect.sheet == "Data"
    assert table.frame.rows() == [("2026-01-01", 3.0)]
    assert table.rows.to_list() == [4]
    assert read_table(data, "a.xlsx", ReadOptions(sheet="Notes")).dialect.sheet == "Notes" if False else True


def test_chosen_sheet_wins():
    data = workbook(One=[["date", "sales"], ["2026-01-01", 3]], Two=[["x", "y"], ["a", "b"]])
    assert read_table(data, "a.xlsx", ReadOptions(sheet="Two")).frame.rows() == [("a", "b")]
    assert refusal(data, sheet="Three").code == "sheet_missing"


def test_blank_rows_of_a_sheet_keep_the_numbers_right():
    data = workbook(Data=[["date", "sales"], ["2026-01-01", 3], [], [None, 5], ["2026-01-03", 4]])
    table = read_table(data, "a.xlsx")
    assert table.rows.to_list() == [2, 4, 5]
    assert [found.code for found in table.findings] == ["blank_lines"]


# ---------------------------------------------------------------- columns


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        ("Fecha", "date"),
        ("FECHA_VENTA", "date"),
        ("week_end_date", "date"),
        ("Fecha de venta", "date"),
        ("DíaDeLaSemana", "weekday"),
        ("dia_semana", "weekday"),
        ("Día de la semana", "weekday"),
        ("Promociones", "promotion"),
        ("en promoción", "promotion"),
        ("onpromotion", "promotion"),
        ("Festivo", "holiday"),
        ("IsHoliday", "holiday"),
        ("Ventas", "sales"),
        ("Ventas (unidades)", "sales"),
        ("units_sold", "sales"),
        ("QuantitySold", "sales"),
        ("Unidades Vendidas", "sales"),
        ("precio", "price"),
        ("Precio unitario (€)", "price"),
        ("UNIT PRICE", "price"),
        ("tienda", "store"),
        ("CódigoTienda", "store"),
        ("Store ID", "store"),
        ("sku", "product"),
        ("item", "product"),
        ("Nombre producto", "product"),
        ("abierto", "regressor"),
        ("SchoolHoliday", "regressor"),
        ("state_holiday", "regressor"),
        ("snap_CA", "regressor"),
        ("event_name_1", "regressor"),
        ("display", "regressor"),
        ("customers", "after"),
        ("Clientes", "after"),
        ("visits", "after"),
        ("Revenue", "revenue"),
        ("Importe ventas", "revenue"),
        ("sales amount", "revenue"),
        ("competition_distance", "unknown"),
        ("Fuel_Price", "unknown"),
    ],
)
def test_names_in_two_languages(header, kind):
    assert meaning_of(header).kind == kind


def test_every_spelling_has_one_plain_name():
    spellings = ["Día de la semana", "DíaDeLaSemana", "dia_de_la_semana", "DIA DE LA SEMANA", "día-de-la-semana"]
    assert {plain_name(name) for name in spellings} == {"dia_de_la_semana"}


def matched(*lines: str) -> dict[str, str]:
    matches, mapping = match_columns(read_table(("\n".join(lines) + "\n").encode(), "a.csv"))
    roles = {match.source: match.role for match in matches}
    assert all(0 <= match.confidence <= 1 for match in matches)
    assert {source: role for role, source in mapping.roles.items()} == {
        source: role for source, role in roles.items() if role not in ("regressor", "ignore")
    }
    assert mapping.regressors == tuple(source for source, role in roles.items() if role == "regressor")
    return roles


def test_units_are_preferred_to_money():
    roles = matched("fecha,ventas,unidades,importe", "2026-01-01,30,3,30", "2026-01-02,40,4,40")
    assert roles == {"fecha": "date", "ventas": "ignore", "unidades": "sales", "importe": "ignore"}


def test_what_is_known_only_afterwards_is_never_proposed():
    after = "customers,clientes,revenue,ingresos,importe,visits,transactions,spend"
    roles = matched(f"date,sales,{after}", "2026-01-01,3" + ",1" * 8, "2026-01-02,4" + ",2" * 8)
    assert {roles[name] for name in after.split(",")} == {"ignore"}


def test_values_speak_too():
    roles = matched("semana,dia,sales,promo", "1,2026-01-01,3,BOGO", "1,2026-01-02,4,2x1", "1,2026-01-03,4,BOGO")
    assert roles == {"semana": "ignore", "dia": "date", "sales": "sales", "promo": "regressor"}


def test_confidence_falls_when_values_do_not_fit():
    good = match_columns(read_table(b"date,sales\n2026-01-01,3\n", "a.csv"))[0][1]
    poor = match_columns(read_table(b"date,sales\n2026-01-01,many\n2026-01-02,3\n", "a.csv"))[0][1]
    assert good.role == poor.role == "sales"
    assert poor.confidence < good.confidence


def test_unnamed_meaning_is_guessed_from_values_when_only_one_fits():
    roles = matched("when it was,how much,where", "2026-01-01,3,a", "2026-01-02,4,b")
    assert roles == {"when it was": "date", "how much": "sales", "where": "ignore"}
    unclear = matched("when it was,this,that", "2026-01-01,3,5", "2026-01-02,4,6")
    assert "sales" not in unclear.values()
