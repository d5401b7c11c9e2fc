"""What a reader can notice in a file: one stable code each, with the sentence and the advice that belong to it.

A message is the template filled with the finding's ``facts`` (plus ``row``, ``column`` and ``count``), so a page can
fill a translated template with the same facts. Nothing is ever formatted twice: braces in a file stay text.
"""

from __future__ import annotations

from ml.errors import FileRefused
from ml.records import Finding, Severity

Fact = str | int | float
VALUE_LIMIT = 60  # characters of a cell that a message quotes; the whole cell is in the raw file

FINDING_CODES: dict[str, str] = {
    # the whole file is refused
    "file_empty": "The file is empty",
    "file_blank": "The file holds nothing but blank lines",
    "file_compressed": "The file is {kind}, not a table",
    "file_not_table": "The file is {kind}, not a table",
    "file_old_excel": "The file is an old or password-protected Office document",
    "file_damaged": "The file says it is {kind} but cannot be read: {detail}",
    "file_too_large_inside": "Unpacked, the file would hold {size}, more than the limit of {limit}",
    "encoding_unknown": "{encoding} is not a text encoding that is known here",
    "encoding_mismatch": "The file cannot be read as {encoding}: {detail}",
    "separator_invalid": "{separator} cannot separate columns",
    "sheet_missing": "There is no sheet called {sheet}; the workbook has: {seen}",
    "sheet_empty": "No sheet of the workbook holds a table",
    "header_too_long": "The first line has more than {limit} characters, so it is no row of column names",
    "header_missing": "The first row holds data ({sample}), not column names",
    "too_many_columns": "The file has {columns} columns, more than the limit of {limit}",
    "duplicate_header": "The column name {column} appears {times} times",
    "unclosed_quote": "A quote that opens in row {row} swallows the rows after it",
    "no_rows": "The file has column names but no row of data",
    "columns_missing": "No column for {needed} was found; the file has: {seen}",
    "mapping_unknown": "The mapping names {column}, which is not a column of the file; it has: {seen}",
    "mapping_invalid": "The mapping cannot be used: {detail}",
    "frequency_unsupported": "The dates are about {days} days apart; daily or weekly rows are needed",
    "attribute_none": "Beside store and product no column was found that could describe them; the file has: {seen}",
    # repaired, and shown
    "encoding_detected": "The text was read as {encoding}, for example: {sample}",
    "byte_order_mark": "A byte order mark at the start of the file was left out",
    "separator_detected": "Columns are separated by {separator}",
    "preamble_skipped": "{count} line(s) above the column names were skipped, the first: {sample}",
    "trailing_separator": "Every row ends with a separator; the empty column it makes was dropped",
    "header_empty": "{count} column(s) have no name; the first is now called {column}",
    "header_trimmed": "Spaces or invisible characters around column names were removed: {names}",
    "header_read_as": "Column names were read without regard to case, accents and spaces: {pairs}",
    "column_guessed": "{column} was taken as {role} because of its values, not its name",
    "decimal_comma": "The comma in {column} was read as decimal comma, for example {sample}",
    "thousands_separator": "{sample} in {column} was read with a thousands separator, as {read}",
    "number_ambiguous": "{sample} in {column} can be read in two ways; it was taken as {read}",
    "date_format": "The dates in {column} were read as {format}",
    "date_order_ambiguous": "The dates in {column} fit day/month and month/day; they were read as {format}",
    "date_serial": "The dates in {column} are spreadsheet day numbers; {sample} was read as {read}",
    "time_dropped": "{count} value(s) in {column} carry a time of day, which was dropped",
    "flag_text": "Words in {column} were read as yes (1) and no (0), for example {sample}",
    "percent_scaled": "{column} holds percentages; {sample} was read as the share {read}",
    "formula_text": "{value} in {column} looks like a formula; it is kept as text",
    "invisible_characters": "Invisible characters in {column} were removed, for example in {value}",
    "whitespace_trimmed": "Spaces around the text in {column} were removed, for example in {value}",
    "unicode_normalised": "Accented letters in {column} were written in two ways and made equal, as in {value}",
    "derived_mismatch": "{count} value(s) in {column} do not fit the date; the date is used and {column} is ignored",
    "revenue_mismatch": "{count} value(s) in {column} are not units × price ({value} against {expected})",
    # rows left out
    "row_too_short": "The row has {cells} cells, the header has {columns}",
    "row_too_long": "The row has {cells} cells, the header has {columns}",
    "row_empty": "Every cell of the row is empty",
    "encoding_invalid": "{column} holds bytes that are no text: {value}",
    "field_too_long": "{column} holds more than {limit} characters: {value}",
    "date_empty": "{column} is empty",
    "date_invalid": "{value} in {column} is not a date written as {format}",
    "date_impossible": "{value} in {column} is a day that does not exist",
    "date_future": "{value} in {column} is in the future",
    "date_too_old": "{value} in {column} is before {first}",
    "sales_empty": "{column} is empty",
    "sales_negative": "{value} in {column} is negative",
    "sales_fractional": "{value} in {column} is not a whole number, as nearly all others are",
    "number_invalid": "{value} in {column} is not a number",
    "number_not_finite": "{value} in {column} is not a finite number",
    "number_hex": "{value} in {column} is a hexadecimal number",
    "number_currency": "{value} in {column} carries a currency sign",
    "number_overflow": "{value} in {column} is too large for a number",
    "number_too_large": "{value} in {column} is more than {limit}",
    "price_not_positive": "{value} in {column} is not a price above 0",
    "promotion_out_of_range": "{value} in {column} is neither 0 or 1 nor a share between 0 and 1",
    "holiday_not_flag": "{value} in {column} is neither 0 nor 1",
    "flag_invalid": "{value} in {column} is not yes or no",
    "store_empty": "{column} is empty",
    "product_empty": "{column} is empty",
    "duplicate_row": "The row repeats an earlier row, cell by cell",
    "duplicate_conflict": "Several rows for {value} do not agree; none of them is used",
    "attribute_repeated": "A row for {value} says the same as an earlier one",
    "attribute_conflict": "Several rows describe {value} differently; none of them is used",
    "no_rows_left": "No row of the file can be used",
    # said, nothing to do
    "blank_lines": "{count} blank line(s) were passed over",
    "sheet_chosen": "The sheet {sheet} was read; the workbook also has: {others}",
    "column_dropped": "{column} holds nested or binary values and is not used",
    "role_duplicate": "{column} could also be {role}; {used} is used",
    "derived_ignored": "{column} follows from the date and is not needed",
    "value_missing": "{count} value(s) in {column} are empty and count as unknown",
    "revenue_other_basis": "{column} is not units × price in most rows (taxes or discounts?); it is not used",
    "similar_names": "{column} has names that differ only in case: {sample}",
    "duplicate_keys": "{count} row(s) ask for a date, store and product that was asked before",
    "attribute_reserved": "{column} is the name of a sales column and is not used as an attribute",
    "attribute_constant": "{column} has the same value, or none, in every row and is not used",
    "attribute_identifier": "{column} names each row anew, so it says no more than the store or product; not used",
    "attribute_unsold": "{count} row(s) describe something that has no sales yet, the first: {value}",
    "attribute_lacking": "{count} of the stores or products with sales have no row here, for example {value}",
}

_SAVE_AS = "Save the table as CSV (UTF-8) or XLSX and upload that."
_PLAIN_NUMBER = "Write a plain number such as 12.5, without signs or words."

FINDING_HINTS: dict[str, str] = {
    "file_empty": "Export the file again and check its size.",
    "file_blank": "Export the file again; it must hold a header and rows.",
    "file_compressed": "Unpack it and upload the CSV, XLSX or Parquet file inside.",
    "file_not_table": _SAVE_AS,
    "file_old_excel": "Open it and save it as XLSX without a password.",
    "file_damaged": "Export or copy the file again; it may have been cut off.",
    "file_too_large_inside": "Upload the table as CSV or Parquet, or in several files.",
    "encoding_unknown": "Choose for example utf-8, cp1252 or latin-1.",
    "encoding_mismatch": "Choose another encoding, or leave it to be detected.",
    "separator_invalid": "Choose one of comma, semicolon, tab or |.",
    "sheet_missing": "Choose one of the sheets of the workbook.",
    "sheet_empty": "Put the column names in the first row of a sheet and the data below.",
    "header_too_long": _SAVE_AS,
    "header_missing": "Add a first row with the column names, for example: date,store,product,sales.",
    "too_many_columns": "Keep one row per date, store and product, with a column per kind of value.",
    "duplicate_header": "Give every column its own name.",
    "unclosed_quote": "Close the quote in that row, or write two quotes where one is meant as text.",
    "no_rows": "Export the file with its data.",
    "columns_missing": "Rename the column, or say in the mapping which column it is.",
    "mapping_unknown": "Choose a column of this file.",
    "mapping_invalid": "Give every role a column of its own.",
    "frequency_unsupported": "Upload one row per day or per week.",
    "encoding_detected": "If the example looks wrong, choose another encoding.",
    "separator_detected": "If the columns look wrong, choose another separator.",
    "column_guessed": "Check the column mapping.",
    "decimal_comma": "If this is wrong, choose the decimal sign.",
    "thousands_separator": "If this is wrong, choose the decimal sign.",
    "number_ambiguous": "Choose the decimal sign if this is wrong.",
    "date_format": "If this is wrong, choose the date order.",
    "date_order_ambiguous": "Choose the date order if this is wrong.",
    "time_dropped": "Sum the sales per day first if the rows are single tickets.",
    "formula_text": "Nothing to do: exports mark such cells as text.",
    "derived_mismatch": "Check whether the dates were read in the right order.",
    "revenue_mismatch": "Check the units and the price of these rows; the revenue itself is not used.",
    "row_too_short": "Add the missing cells; an empty value still needs its separator.",
    "row_too_long": "Put quotes around text (or decimal commas) that contains the separator.",
    "row_empty": "Delete the row, or fill it.",
    "encoding_invalid": "Write the name again and save the file as UTF-8.",
    "field_too_long": "Shorten the text; a quote may be missing.",
    "date_empty": "Give the date of the sale.",
    "date_invalid": "Write the date like the others in the column.",
    "date_impossible": "Correct the day or the month.",
    "date_future": "Check the year; sales can only be loaded once they happened.",
    "date_too_old": "Check the year.",
    "sales_empty": "Give the units sold; write 0 if nothing was sold.",
    "sales_negative": "Returns are not sales: subtract them on the day of the sale, or leave them out.",
    "sales_fractional": "Write the whole units that were sold.",
    "number_invalid": _PLAIN_NUMBER,
    "number_not_finite": "Leave the cell empty if the value is not known.",
    "number_hex": _PLAIN_NUMBER,
    "number_currency": _PLAIN_NUMBER,
    "number_overflow": _PLAIN_NUMBER,
    "number_too_large": "Check the number; a decimal sign may be lost.",
    "price_not_positive": "Give the price per unit, or leave the cell empty if it is not known.",
    "promotion_out_of_range": "Write 1 for a promotion and 0 for none, or the discount as a share such as 0.2.",
    "holiday_not_flag": "Write 1 for a holiday and 0 for none.",
    "flag_invalid": "Write 1 or 0, or yes or no.",
    "store_empty": "Name the store.",
    "product_empty": "Name the product.",
    "duplicate_conflict": "Keep the right row, or sum them to one row per date, store and product.",
    "attribute_none": "Add a column per property, for example: store,type,size.",
    "attribute_conflict": "Keep one row per store or product.",
    "attribute_reserved": "Give the column another name, for example list_price.",
    "attribute_unsold": "Nothing to do if they are new; otherwise check how the names are written.",
    "attribute_lacking": "They are forecast without attributes; add rows for them if you can.",
    "no_rows_left": "Correct the rows listed here and upload the file again.",
    "similar_names": "If they are the same, write them in one way.",
}


def shown(value: object) -> str:
    """A cell as a message quotes it: one line, printable, at most ``VALUE_LIMIT`` characters."""
    text = str(value)
    short = text[:VALUE_LIMIT] + ("…" if len(text) > VALUE_LIMIT else "")
    return "".join(c if c.isprintable() else "·" for c in short)


def finding(
    code: str,
    severity: Severity,
    *,
    row: int | None = None,
    column: str | None = None,
    count: int = 1,
    **facts: Fact,
) -> Finding:
    """Make a finding whose message is the code's template filled with the facts."""
    kept = {name: shown(fact) if name == "value" else fact for name, fact in facts.items()}
    return Finding(
        code=code,
        severity=severity,
        message=FINDING_CODES[code].format(**{"row": row, "column": column, "count": count, **kept}),
        hint=FINDING_HINTS.get(code, ""),
        row=row,
        column=column,
        count=count,
        facts=kept,
    )


def refused(
    code: str, *, row: int | None = None, column: str | None = None, count: int = 1, **facts: Fact
) -> FileRefused:
    """The error that refuses a whole file; its ``facts["finding"]`` is the finding a page shows."""
    found = finding(code, "reject", row=row, column=column, count=count, **facts)
    message = f"{found.message}. {found.hint}".strip()
    return FileRefused(message, field=column, row=row, finding=found)


def reason(code: str, **facts: Fact | None) -> str:
    """The sentence of one left-out row."""
    return FINDING_CODES[code].format(**{"row": "", "column": "", "count": 1, **facts})
