"""What the reader notices in a file, in the reader's language: code -> sentence and advice.

The English is the same as in ``ml.findings`` (a test compares them); a page may not import the reader.
"""

from __future__ import annotations

from control_room.i18n import N_

# code -> (what was noticed, what to do); names in braces are the finding's facts
FINDINGS: dict[str, tuple[str, str]] = {
    "file_empty": (
        N_("The file is empty"),
        N_("Export the file again and check its size."),
    ),
    "file_blank": (
        N_("The file holds nothing but blank lines"),
        N_("Export the file again; it must hold a header and rows."),
    ),
    "file_compressed": (
        N_("The file is {kind}, not a table"),
        N_("Unpack it and upload the CSV, XLSX or Parquet file inside."),
    ),
    "file_not_table": (
        N_("The file is {kind}, not a table"),
        N_("Save the table as CSV (UTF-8) or XLSX and upload that."),
    ),
    "file_old_excel": (
        N_("The file is an old or password-protected Office document"),
        N_("Open it and save it as XLSX without a password."),
    ),
    "file_damaged": (
        N_("The file says it is {kind} but cannot be read: {detail}"),
        N_("Export or copy the file again; it may have been cut off."),
    ),
    "file_too_large_inside": (
        N_("Unpacked, the file would hold {size}, more than the limit of {limit}"),
        N_("Upload the table as CSV or Parquet, or in several files."),
    ),
    "encoding_unknown": (
        N_("{encoding} is not a text encoding that is known here"),
        N_("Choose for example utf-8, cp1252 or latin-1."),
    ),
    "encoding_mismatch": (
        N_("The file cannot be read as {encoding}: {detail}"),
        N_("Choose another encoding, or leave it to be detected."),
    ),
    "separator_invalid": (
        N_("{separator} cannot separate columns"),
        N_("Choose one of comma, semicolon, tab or |."),
    ),
    "sheet_missing": (
        N_("There is no sheet called {sheet}; the workbook has: {seen}"),
        N_("Choose one of the sheets of the workbook."),
    ),
    "sheet_empty": (
        N_("No sheet of the workbook holds a table"),
        N_("Put the column names in the first row of a sheet and the data below."),
    ),
    "header_too_long": (
        N_("The first line has more than {limit} characters, so it is no row of column names"),
        N_("Save the table as CSV (UTF-8) or XLSX and upload that."),
    ),
    "header_missing": (
        N_("The first row holds data ({sample}), not column names"),
        N_("Add a first row with the column names, for example: date,store,product,sales."),
    ),
    "too_many_columns": (
        N_("The file has {columns} columns, more than the limit of {limit}"),
        N_("Keep one row per date, store and product, with a column per kind of value."),
    ),
    "duplicate_header": (
        N_("The column name {column} appears {times} times"),
        N_("Give every column its own name."),
    ),
    "unclosed_quote": (
        N_("A quote that opens in row {row} swallows the rows after it"),
        N_("Close the quote in that row, or write two quotes where one is meant as text."),
    ),
    "no_rows": (
        N_("The file has column names but no row of data"),
        N_("Export the file with its data."),
    ),
    "columns_missing": (
        N_("No column for {needed} was found; the file has: {seen}"),
        N_("Rename the column, or say in the mapping which column it is."),
    ),
    "mapping_unknown": (
        N_("The mapping names {column}, which is not a column of the file; it has: {seen}"),
        N_("Choose a column of this file."),
    ),
    "mapping_invalid": (
        N_("The mapping cannot be used: {detail}"),
        N_("Give every role a column of its own."),
    ),
    "frequency_unsupported": (
        N_("The dates are about {days} days apart; daily or weekly rows are needed"),
        N_("Upload one row per day or per week."),
    ),
    "encoding_detected": (
        N_("The text was read as {encoding}, for example: {sample}"),
        N_("If the example looks wrong, choose another encoding."),
    ),
    "byte_order_mark": (
        N_("A byte order mark at the start of the file was left out"),
        "",
    ),
    "separator_detected": (
        N_("Columns are separated by {separator}"),
        N_("If the columns look wrong, choose another separator."),
    ),
    "preamble_skipped": (
        N_("{count} line(s) above the column names were skipped, the first: {sample}"),
        "",
    ),
    "trailing_separator": (
        N_("Every row ends with a separator; the empty column it makes was dropped"),
        "",
    ),
    "header_empty": (
        N_("{count} column(s) have no name; the first is now called {column}"),
        "",
    ),
    "header_trimmed": (
        N_("Spaces or invisible characters around column names were removed: {names}"),
        "",
    ),
    "header_read_as": (
        N_("Column names were read without regard to case, accents and spaces: {pairs}"),
        "",
    ),
    "column_guessed": (
        N_("{column} was taken as {role} because of its values, not its name"),
        N_("Check the column mapping."),
    ),
    "decimal_comma": (
        N_("The comma in {column} was read as decimal comma, for example {sample}"),
        N_("If this is wrong, choose the decimal sign."),
    ),
    "thousands_separator": (
        N_("{sample} in {column} was read with a thousands separator, as {read}"),
        N_("If this is wrong, choose the decimal sign."),
    ),
    "number_ambiguous": (
        N_("{sample} in {column} can be read in two ways; it was taken as {read}"),
        N_("Choose the decimal sign if this is wrong."),
    ),
    "date_format": (
        N_("The dates in {column} were read as {format}"),
        N_("If this is wrong, choose the date order."),
    ),
    "date_order_ambiguous": (
        N_("The dates in {column} fit day/month and month/day; they were read as {format}"),
        N_("Choose the date order if this is wrong."),
    ),
    "date_serial": (
        N_("The dates in {column} are spreadsheet day numbers; {sample} was read as {read}"),
        "",
    ),
    "time_dropped": (
        N_("{count} value(s) in {column} carry a time of day, which was dropped"),
        N_("Sum the sales per day first if the rows are single tickets."),
    ),
    "flag_text": (
        N_("Words in {column} were read as yes (1) and no (0), for example {sample}"),
        "",
    ),
    "percent_scaled": (
        N_("{column} holds percentages; {sample} was read as the share {read}"),
        "",
    ),
    "formula_text": (
        N_("{value} in {column} looks like a formula; it is kept as text"),
        N_("Nothing to do: exports mark such cells as text."),
    ),
    "invisible_characters": (
        N_("Invisible characters in {column} were removed, for example in {value}"),
        "",
    ),
    "whitespace_trimmed": (
        N_("Spaces around the text in {column} were removed, for example in {value}"),
        "",
    ),
    "unicode_normalised": (
        N_("Accented letters in {column} were written in two ways and made equal, as in {value}"),
        "",
    ),
    "derived_mismatch": (
        N_("{count} value(s) in {column} do not fit the date; the date is used and {column} is ignored"),
        N_("Check whether the dates were read in the right order."),
    ),
    "revenue_mismatch": (
        N_("{count} value(s) in {column} are not units × price ({value} against {expected})"),
        N_("Check the units and the price of these rows; the revenue itself is not used."),
    ),
    "row_too_short": (
        N_("The row has {cells} cells, the header has {columns}"),
        N_("Add the missing cells; an empty value still needs its separator."),
    ),
    "row_too_long": (
        N_("The row has {cells} cells, the header has {columns}"),
        N_("Put quotes around text (or decimal commas) that contains the separator."),
    ),
    "row_empty": (
        N_("Every cell of the row is empty"),
        N_("Delete the row, or fill it."),
    ),
    "encoding_invalid": (
        N_("{column} holds bytes that are no text: {value}"),
        N_("Write the name again and save the file as UTF-8."),
    ),
    "field_too_long": (
        N_("{column} holds more than {limit} characters: {value}"),
        N_("Shorten the text; a quote may be missing."),
    ),
    "date_empty": (
        N_("{column} is empty"),
        N_("Give the date of the sale."),
    ),
    "date_invalid": (
        N_("{value} in {column} is not a date written as {format}"),
        N_("Write the date like the others in the column."),
    ),
    "date_impossible": (
        N_("{value} in {column} is a day that does not exist"),
        N_("Correct the day or the month."),
    ),
    "date_future": (
        N_("{value} in {column} is in the future"),
        N_("Check the year; sales can only be loaded once they happened."),
    ),
    "date_too_old": (
        N_("{value} in {column} is before {first}"),
        N_("Check the year."),
    ),
    "sales_empty": (
        N_("{column} is empty"),
        N_("Give the units sold; write 0 if nothing was sold."),
    ),
    "sales_negative": (
        N_("{value} in {column} is negative"),
        N_("Returns are not sales: subtract them on the day of the sale, or leave them out."),
    ),
    "sales_fractional": (
        N_("{value} in {column} is not a whole number, as nearly all others are"),
        N_("Write the whole units that were sold."),
    ),
    "number_invalid": (
        N_("{value} in {column} is not a number"),
        N_("Write a plain number such as 12.5, without signs or words."),
    ),
    "number_not_finite": (
        N_("{value} in {column} is not a finite number"),
        N_("Leave the cell empty if the value is not known."),
    ),
    "number_hex": (
        N_("{value} in {column} is a hexadecimal number"),
        N_("Write a plain number such as 12.5, without signs or words."),
    ),
    "number_currency": (
        N_("{value} in {column} carries a currency sign"),
        N_("Write a plain number such as 12.5, without signs or words."),
    ),
    "number_overflow": (
        N_("{value} in {column} is too large for a number"),
        N_("Write a plain number such as 12.5, without signs or words."),
    ),
    "number_too_large": (
        N_("{value} in {column} is more than {limit}"),
        N_("Check the number; a decimal sign may be lost."),
    ),
    "price_not_positive": (
        N_("{value} in {column} is not a price above 0"),
        N_("Give the price per unit, or leave the cell empty if it is not known."),
    ),
    "promotion_out_of_range": (
        N_("{value} in {column} is neither 0 or 1 nor a share between 0 and 1"),
        N_("Write 1 for a promotion and 0 for none, or the discount as a share such as 0.2."),
    ),
    "holiday_not_flag": (
        N_("{value} in {column} is neither 0 nor 1"),
        N_("Write 1 for a holiday and 0 for none."),
    ),
    "flag_invalid": (
        N_("{value} in {column} is not yes or no"),
        N_("Write 1 or 0, or yes or no."),
    ),
    "store_empty": (
        N_("{column} is empty"),
        N_("Name the store."),
    ),
    "product_empty": (
        N_("{column} is empty"),
        N_("Name the product."),
    ),
    "duplicate_row": (
        N_("The row repeats an earlier row, cell by cell"),
        "",
    ),
    "duplicate_conflict": (
        N_("Several rows for {value} do not agree; none of them is used"),
        N_("Keep the right row, or sum them to one row per date, store and product."),
    ),
    "no_rows_left": (
        N_("No row of the file can be used"),
        N_("Correct the rows listed here and upload the file again."),
    ),
    "blank_lines": (
        N_("{count} blank line(s) were passed over"),
        "",
    ),
    "sheet_chosen": (
        N_("The sheet {sheet} was read; the workbook also has: {others}"),
        "",
    ),
    "column_dropped": (
        N_("{column} holds nested or binary values and is not used"),
        "",
    ),
    "role_duplicate": (
        N_("{column} could also be {role}; {used} is used"),
        "",
    ),
    "derived_ignored": (
        N_("{column} follows from the date and is not needed"),
        "",
    ),
    "value_missing": (
        N_("{count} value(s) in {column} are empty and count as unknown"),
        "",
    ),
    "revenue_other_basis": (
        N_("{column} is not units × price in most rows (taxes or discounts?); it is not used"),
        "",
    ),
    "similar_names": (
        N_("{column} has names that differ only in case: {sample}"),
        N_("If they are the same, write them in one way."),
    ),
    "duplicate_keys": (
        N_("{count} row(s) ask for a date, store and product that was asked before"),
        "",
    ),
    "attribute_none": (
        N_("Beside store and product no column was found that could describe them; the file has: {seen}"),
        N_("Add a column per property, for example: store,type,size."),
    ),
    "attribute_repeated": (
        N_("A row for {value} says the same as an earlier one"),
        "",
    ),
    "attribute_conflict": (
        N_("Several rows describe {value} differently; none of them is used"),
        N_("Keep one row per store or product."),
    ),
    "attribute_reserved": (
        N_("{column} is the name of a sales column and is not used as an attribute"),
        N_("Give the column another name, for example list_price."),
    ),
    "attribute_constant": (
        N_("{column} has the same value, or none, in every row and is not used"),
        "",
    ),
    "attribute_identifier": (
        N_("{column} names each row anew, so it says no more than the store or product; not used"),
        "",
    ),
    "attribute_unsold": (
        N_("{count} row(s) describe something that has no sales yet, the first: {value}"),
        N_("Nothing to do if they are new; otherwise check how the names are written."),
    ),
    "attribute_lacking": (
        N_("{count} of the stores or products with sales have no row here, for example {value}"),
        N_("They are forecast without attributes; add rows for them if you can."),
    ),
}

# what a file may be that is no table: the fact ``kind``
KINDS = (
    N_("a gzip archive"),
    N_("a bzip2 archive"),
    N_("an xz archive"),
    N_("a zstd archive"),
    N_("a 7-zip archive"),
    N_("a RAR archive"),
    N_("a zip archive"),
    N_("a zip archive or XLSX"),
    N_("a PDF document"),
    N_("a PNG image"),
    N_("a JPEG image"),
    N_("a GIF image"),
    N_("a TIFF image"),
    N_("an SQLite database"),
    N_("an Arrow file"),
    N_("a program"),
    N_("an old Office document"),
    N_("an HTML page"),
    N_("an XML document"),
    N_("a JSON document"),
    N_("a document"),
    N_("a Word document"),
    N_("a presentation"),
    N_("an OpenDocument file"),
    N_("binary data"),
)
