"""The report of a load test: a page of text, a page of HTML, a document of JSON."""
