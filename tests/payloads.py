"""Texts of an attacker, for the names, titles and ids of every page, table and print."""

HTML = [
    "<script>alert('x')</script>",
    "</script><script>alert('x')</script>",
    "<img src=x onerror=alert('x')>",
    "\"><svg onload=alert('x')>",
    "' onmouseover='alert(1)",
    '" autofocus onfocus="alert(1)',
    "<a href=\"javascript:alert('x')\">open</a>",
    "javascript:alert('x')",
    "<b>bold</b><i>x</i><sub>1</sub>",
    "<!--",
    "-->",
    "]]>",
    "<![CDATA[<script>alert('x')</script>]]>",
    "<iframe src=//evil.example></iframe>",
    "<style>*{display:none}</style>",
    "</style></title></textarea><script>alert('x')</script>",
    "<base href=//evil.example>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "&lt;script&gt;alert('x')&lt;/script&gt;",
    "{{7*7}} ${7*7} {% raw %} #{7*7}",
    "<\u2028script>\u2029",
    "\U0001f600<u>",
    "%3Cscript%3Ealert(1)%3C/script%3E",
    "$a_b$ \\frac{1}{2} & < >",
]
FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", ' =HYPERLINK("x")']
TERMINAL = [
    "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\x1b]8;;http://evil.example\x1b\\link\x1b]8;;\x1b\\.",
    "\x9b2J", "\u202egnp.exe", "a\rb", "\x08\x08\x08", "[red]x[/red]", "[link=http://evil.example]x",
    "[/]", "[bold", ":skull:",
]  # fmt: skip
MARKDOWN = [
    "[x](javascript:alert(1))",
    "![x](http://evil.example/x.png)",
    "`code",
    "a | b",
    "<b>x</b>",
]
