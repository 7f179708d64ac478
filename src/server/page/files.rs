// The files of the page: name, type, bytes.
&[
    ("index.html", "text/html; charset=utf-8", include_bytes!("../page/index.html")),
    ("docs.html", "text/html; charset=utf-8", include_bytes!("../page/docs.html")),
]
