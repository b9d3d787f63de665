#!/usr/bin/env python3
"""Makes the vectors beside it: `./generate.py` writes one JSON file for each format.

The writers here follow the description of the formats in `docs/containers.md`, not the library's code, and use
nothing but Python's standard library. Run it again after a change; the output is the same each time.
"""

import base64
import json
import pathlib
import struct

HERE = pathlib.Path(__file__).parent
TYPES = ["null", "bool", "short", "ushort", "int", "uint", "long", "ulong", "llong", "ullong",
         "float", "double", "string", "bytes", "container", "array"]
INTEGERS = TYPES[2:10]
IDS = [("target_id", 1), ("target_sub_id", 2), ("source_id", 3), ("source_sub_id", 4)]


# What a container is: a header (a dict) and a list of (name, type, value).

def header(message_type="telemetry", version="1.0.0.0", source="probe-7", source_sub="a",
           target="hub", target_sub=""):
    return {"message_type": message_type, "version": version, "source_id": source,
            "source_sub_id": source_sub, "target_id": target, "target_sub_id": target_sub}


NO_IDS = header("data_container", source="", source_sub="", target="")


def bits(kind, number):
    form = "f" if kind == "float" else "d"
    return "0x" + struct.pack(">" + form, number).hex()


def typed_value(kind, value):
    """A value in the shape of typed JSON."""
    shown = {"type": kind, "type_id": TYPES.index(kind)}
    if kind in INTEGERS:
        shown["value"] = str(value)
    elif kind in ("float", "double"):
        shown["value"] = {"bits": bits(kind, value)}
    elif kind == "string" and isinstance(value, bytes):
        shown["value_base64"] = base64.b64encode(value).decode()
    elif kind == "bytes":
        shown["value_base64"] = base64.b64encode(value).decode()
    elif kind == "container" and value is not None:
        shown["value"] = typed(*value)
    elif kind == "array":
        shown["value"] = [typed_value(*element) for element in value]
    else:
        shown["value"] = value
    return shown


def typed(head, values):
    return {"header": head,
            "values": [{"name": name, **typed_value(kind, value)} for name, kind, value in values]}


# The writers. Each gives bytes.

def fields(head):
    ids = [(key, number, head[key]) for key, number in IDS]
    if head["message_type"] == "data_container" and not any(text for _, _, text in ids):
        ids = []
    return ids + [("message_type", 5, head["message_type"]), ("version", 6, head["version"])]


def plain(kind, value):
    """The text of a value in the formats text, C++-style JSON and XML."""
    if kind == "null":
        return ""
    if kind == "bool":
        return "true" if value else "false"
    if kind in INTEGERS:
        return str(value)
    if kind in ("float", "double"):
        return "%f" % value
    return value


def text(head, values, open="{{", close="}}"):
    items = "".join(f"[{number},{content}];" for _, number, content in fields(head))
    data = "".join(f"[{name},{TYPES.index(kind)},{plain(kind, value)}];" for name, kind, value in values)
    return f"@header={open}{items}{close};@data={open}{data}{close};".encode()


def cpp_json(head, values):
    def quoted(content):
        return json.dumps(content, ensure_ascii=False)

    head_text = ",".join(f"{quoted(key)}:{quoted(content)}" for key, _, content in fields(head))
    data = ",".join(
        f"{quoted(name)}:{quoted(value) if kind == 'string' else plain(kind, value)}"
        for name, kind, value in values)
    return ('{"header":{%s},"values":{%s}}' % (head_text, data)).encode()


def xml(head, values):
    def escaped(content):
        for letter, entity in (("&", "amp"), ("<", "lt"), (">", "gt"), ('"', "quot"), ("'", "apos")):
            content = content.replace(letter, f"&{entity};")
        return content

    head_text = "".join(f"<{key}>{escaped(content)}</{key}>" for key, _, content in fields(head))
    data = "".join(f"<{name}>{escaped(plain(kind, value))}</{name}>" for name, kind, value in values)
    return f"<container><header>{head_text}</header><values>{data}</values></container>".encode()


def metadata(head):
    return {"message_type": head["message_type"], "protocol_version": head["version"],
            "source": {"id": head["source_id"], "sub_id": head["source_sub_id"]},
            "target": {"id": head["target_id"], "sub_id": head["target_sub_id"]}}


def json2_value(name, kind, value):
    shown = {"name": name, "type": TYPES.index(kind), "type_name": kind, "data": value}
    if kind == "bytes":
        shown.update(data=base64.b64encode(value).decode(), encoding="base64")
    elif kind == "container":
        head, values = value if value is not None else (NO_IDS, [])
        shown["child_count"] = len(values)
        if value is not None:
            shown["data"] = [json2_value(*inner) for inner in values]
            if head != NO_IDS:
                shown["metadata"] = metadata(head)
    elif kind == "array":
        shown.update(data=[json2_value("", *element) for element in value], element_count=len(value))
    return shown


def json2(head, values):
    container = {"version": "2.0", "metadata": metadata(head),
                 "values": [json2_value(*value) for value in values]}
    return json.dumps({"container": container}, sort_keys=True, separators=(",", ":"),
                      ensure_ascii=False).encode()


def mp_integer(number):
    if number >= 0:
        for limit, form, mark in ((0x80, "B", b""), (1 << 8, "B", b"\xcc"), (1 << 16, ">H", b"\xcd"),
                                  (1 << 32, ">I", b"\xce"), (1 << 64, ">Q", b"\xcf")):
            if number < limit:
                return mark + struct.pack(form, number)
    for limit, form, mark in ((0x20, "b", b""), (1 << 7, "b", b"\xd0"), (1 << 15, ">h", b"\xd1"),
                              (1 << 31, ">i", b"\xd2"), (1 << 63, ">q", b"\xd3")):
        if -number <= limit:
            return mark + struct.pack(form, number)
    raise ValueError(number)


def mp_length(length, fix, forms):
    limit, first = fix
    if length < limit:
        return bytes([first | length])
    for limit, mark, form in forms:
        if length < limit:
            return bytes([mark]) + struct.pack(form, length)
    raise ValueError(length)


def mp_string(content):
    raw = content.encode() if isinstance(content, str) else content
    forms = ((1 << 8, 0xD9, "B"), (1 << 16, 0xDA, ">H"), (1 << 32, 0xDB, ">I"))
    return mp_length(len(raw), (32, 0xA0), forms) + raw


def mp_bytes(raw):
    forms = ((1 << 8, 0xC4, "B"), (1 << 16, 0xC5, ">H"), (1 << 32, 0xC6, ">I"))
    return mp_length(len(raw), (0, 0), forms) + raw


def mp_value(kind, value):
    if kind == "null":
        return b"\xc0"
    if kind == "bool":
        return b"\xc3" if value else b"\xc2"
    if kind in INTEGERS:
        return mp_integer(value)
    if kind == "float":
        return b"\xca" + struct.pack(">f", value)
    if kind == "double":
        return b"\xcb" + struct.pack(">d", value)
    if kind == "string":
        return mp_string(value)
    if kind == "bytes":
        return mp_bytes(value)
    if kind == "container":
        return mp_bytes(msgpack(*value))
    forms = ((1 << 16, 0xDC, ">H"), (1 << 32, 0xDD, ">I"))
    return mp_length(len(value), (16, 0x90), forms) + b"".join(mp_value(*element) for element in value)


def msgpack(head, values):
    forms = ((1 << 16, 0xDE, ">H"), (1 << 32, 0xDF, ">I"))
    listed = fields(head)
    return (b"\x82" + mp_string("header") + mp_length(len(listed), (16, 0x80), forms)
            + b"".join(mp_string(key) + mp_string(content) for key, _, content in listed)
            + mp_string("values") + mp_length(len(values), (16, 0x80), forms)
            + b"".join(mp_string(name) + mp_value(kind, value) for name, kind, value in values))


# The containers.

NUMBERS = [("short", "short", -32768), ("ushort", "ushort", 65535), ("int", "int", -2147483648),
           ("uint", "uint", 4294967295), ("long", "long", -9223372036854775808),
           ("ulong", "ulong", 18446744073709551615), ("llong", "llong", 9223372036854775807),
           ("ullong", "ullong", 9223372036854775808)]
INFERRED = [("small", "int", 0), ("minus", "int", -1), ("edge", "int", 2147483647), ("over", "llong", 2147483648),
            ("under", "llong", -2147483649), ("most", "llong", 9223372036854775807),
            ("beyond", "ullong", 9223372036854775808)]
SCALARS = [("nothing", "null", None), ("yes", "bool", True), ("no", "bool", False), ("half", "float", 0.5),
           ("quarter", "double", -0.25), ("zero", "double", -0.0), ("word", "string", "Straße 東京 🚀"),
           ("empty", "string", "")]
PUNCTUATED = [("quotes", "string", "\"a\" \\ 'b' <c> & {d} [e], f; g"), ("tab", "string", "a\tb")]
NESTED = [("box", "container", (header("inner", "2", "s", "", "", ""), [
    ("k", "int", 7), ("deeper", "container", (NO_IDS, [("list", "array", [("bool", True), ("array", [])])]))])),
    ("raw", "bytes", bytes(range(256))), ("none", "bytes", b""),
    ("many", "array", [("int", n) for n in range(20)])]


def both(name, write, head, values, **more):
    """Written as these bytes, and read as what was written."""
    return vector(name, write(head, values), typed(head, values), **more)


def vector(name, raw, container=None, **more):
    entry = {"name": name, **more}
    try:
        entry["text"] = raw.decode()
    except UnicodeDecodeError:
        entry["hex"] = raw.hex()
    if container is not None:
        entry["container"] = container
    return entry


def read(name, raw, container, **more):
    """Read as this container. What would be written is something else."""
    return vector(name, raw, container, only="read", **more)


def write(name, raw, container):
    """Written from this container. What is read is something else, or nothing."""
    return vector(name, raw, container, only="write")


def refused(name, raw, at=None, **more):
    """Not read; `at` is where the error is noticed."""
    entry = vector(name, raw, None, only="refused", **more)
    if at is not None:
        entry["at"] = at
    return entry


def unwritable(name, path, head, values):
    """Not written; the error names `path`."""
    return {"name": name, "only": "unwritable", "path": path, "container": typed(head, values)}


def data(items, open="{{", close="}}"):
    return f"@data={open}{items}{close};".encode()


def text_vectors():
    simple = [("n", "int", 1)]
    parsed = header("data_container", "1.0", "", "", "", "")
    head = header()
    one = typed(parsed, simple)
    strings = [("s", "string", "x")]
    special = [("i", "double", float("inf")), ("m", "float", float("-inf"))]
    bad = lambda value: [("fine", "int", 1), ("bad", "string", value)]
    return [
        both("without values or ids", text, NO_IDS, []),
        both("ids without a type", text, header("data_container"), simple),
        both("an empty type", text, header(""), simple),
        both("every integer", text, head, NUMBERS),
        both("scalars", text, head, SCALARS),
        both("punctuation", text, head, PUNCTUATED),
        both("infinite", text, head, special),
        both("a name twice", text, head, simple + simple),
        both("brackets at the ends", text, head,
             bad("]") + bad("x]") + bad("{x}") + bad(";") + bad("[;]")),
        read("four braces", text(head, simple, "{{{{", "}}}}"), typed(head, simple)),
        read("one brace", text(head, simple, "{", "}"), typed(head, simple)),
        read("the data alone", data("[n,4,1];"), one),
        read("the data first", data("[n,4,1];") + b"@header={{[6,1.0];}};", one),
        read("white space between", b" @header= {{ [6,1.0]; }};\r\n@data= {{\n [n, 4, +1 ]; }};\n", one),
        read("an unknown field", b"@header={{[6,1.0];[7,x];[88,y];}};" + data("[n,4,1];"), one),
        read("spaces around a field", b"@header={{[6, 1.0 ];}};" + data("[n,4,1];"), one),
        read("floats of C", data("[a,11,0x1.8p1];[b,11,1e-3];[c,10,.5];[d,11,-INFINITY];"),
             typed(parsed, [("a", "double", 3.0), ("b", "double", 0.001), ("c", "float", 0.5),
                            ("d", "double", float("-inf"))])),
        read("any name", data("[user-id,4,1];[a.b c,4,1];[,4,1];"),
             typed(parsed, [("user-id", "int", 1), ("a.b c", "int", 1), ("", "int", 1)])),
        read("Rust", data("[n,int_value,1];[b,bytes_value,00fFa0];[a,array_value,0];[z,null_value,];"),
             typed(parsed, simple + [("b", "bytes", b"\x00\xff\xa0"), ("a", "array", []), ("z", "null", None)])),
        read("Python", b"@header={{[6,1.0];}}" + data("[b,13,AP8=];[c,14,2];[k,4,7];[a,15,1];[,1,true];[n,0,null];"),
             typed(parsed, [("b", "bytes", b"\x00\xff"),
                            ("c", "container", (NO_IDS, [("k", "int", 7), ("a", "array", [("bool", True)])])),
                            ("n", "null", None)])),
        read("Python, chosen", data("[s,12,a\\];b];"), typed(parsed, [("s", "string", "a];b")]), dialect="python"),
        read("older C++, chosen", data("[s,13,a</0x0C;>b</0x0D;></0x0A;></0x0B;>];[b,12,AP8=];[c,e,1];[f,a,0.5];"),
             typed(parsed, [("s", "string", "a b\t\r\n"), ("b", "bytes", b"\x00\xff"),
                            ("c", "container", (NO_IDS, [("f", "float", 0.5)]))]), dialect="cpp-legacy"),
        read("C++, chosen", data("[b,13,AP8=];"), typed(parsed, [("b", "bytes", b"AP8=")]), dialect="cpp"),
        read("not UTF-8", b"@data={{[s,12,\xff\xfe];}};", typed(parsed, [("s", "string", b"\xff\xfe")])),
        refused("nothing", b"", 0),
        refused("other text", b"hello", 0),
        refused("only a header", text(head, [])[:-len("@data={{}};")]),
        refused("two headers", b"@header={{}};@header={{}};@data={{}};", 13),
        refused("two data sections", data("") + data(""), 11),
        refused("three braces", b"@data={{{}}};", 6),
        refused("braces that differ", b"@data={{};", 8),
        refused("no semicolon at the end", b"@data={{}}", 10),
        refused("cut in a value", b"@data={{[n,4,1", 13),
        refused("words between items", data("[n,4,1];oops"), 16),
        refused("words behind", data("[n,4,1];") + b"x", 19),
        refused("a field twice", b"@header={{[5,a];[5,b];}};@data={{}};", 17),
        refused("the end of a section in a value", data("[s,12,a};b];"), 15),
        refused("a line break in a value", data("[s,12,a\nb];"), 15),
        refused("an unknown type", data("[n,16,1];"), 11),
        refused("a type with a zero in front", data("[n,04,1];"), 11),
        refused("types by name and by number", data("[n,4,1];[m,int_value,1];"), 19),
        refused("no number", data("[n,4,1x];"), 13),
        refused("a short that is none", data("[n,2,32768];"), 13),
        refused("a negative number without a sign", data("[n,3,-1];"), 13),
        refused("a double beyond all", data("[n,11,1e309];"), 14),
        refused("a bool that is none", data("[n,1,TRUE];"), 13),
        refused("bytes without a dialect", data("[b,13,00];"), 14),
        refused("a container that is not there", data("[c,14,];"), 14),
        refused("an array that is not there", data("[a,15,2];"), 14),
        refused("a container of Rust", data("[c,container_value,0];"), 27),
        refused("fewer values than counted", data("[c,14,2];[k,4,7];"), None, dialect="python"),
        refused("an element with a name", data("[a,15,1];[k,4,7];"), None, dialect="python"),
        refused("a backslash of Python", b"@header={{}}" + data("[s,12,a\\];"), None),
        refused("hexadecimal digits that are odd", data("[b,bytes_value,0];"), 23),
        unwritable("the end of an item", "bad", head, bad("a];b")),
        unwritable("the end of a section", "bad", head, bad("a};b")),
        unwritable("a line break", "bad", head, bad("a\nb")),
        unwritable("white space in front", "bad", head, bad("\ta")),
        unwritable("a name with a space", "a b", head, [("a b", "int", 1)]),
        unwritable("a name that is not ASCII", "ä", head, [("ä", "int", 1)]),
        unwritable("seven decimals", "x", head, [("x", "double", 0.0000001)]),
        unwritable("a float of many decimals", "x", head, [("x", "float", 1e-7)]),
        unwritable("bytes", "b", head, [("b", "bytes", b"x")]),
        unwritable("a container", "c", head, [("c", "container", (NO_IDS, []))]),
        unwritable("no container", "c", head, [("c", "container", None)]),
        unwritable("an array", "a", head, [("a", "array", [])]),
        unwritable("a field with an end", "source_id", header(source="x];[5,evil"), strings),
        unwritable("a field with a space", "target_sub_id", header(target_sub="x "), strings),
        unwritable("a field with a section", "version", header(version="@data={{"), strings),
    ]


def json2_vectors():
    head = header()
    parsed = header("data_container", "1.0", "", "", "", "")
    floats = [("tenth", "double", 0.1), ("large", "double", 1e300), ("least", "double", 5e-324)]
    controls = [("c\"\\", "string", "\x00\x1f\b\f\n\r\t/\x7f ")]
    item = lambda inner: ('{"container":{"version":"2.0","values":[%s]}}' % inner).encode()
    return [
        both("without values or ids", json2, NO_IDS, []),
        both("ids without a type", json2, header("data_container"), []),
        both("every integer", json2, head, NUMBERS),
        both("scalars", json2, head, SCALARS + PUNCTUATED),
        both("control characters", json2, head, controls),
        both("bytes and what is inside", json2, head, NESTED),
        both("no container", json2, head, [("c", "container", None)]),
        read("doubles", json2(head, floats), typed(head, floats)),
        read("any order, and more keys", b' { "more" : [ { } , [ 1.5e+3 ] , null ] , "container" : { "values" : '
             b'[ { "type" : 4 , "data" : 1 , "more" : { "a" : "\\ud83d\\ude80" } , "name" : "\\u00e4\\/" } ] , '
             b'"version" : "2.0" } } ', typed(parsed, [("ä/", "int", 1)])),
        read("a type by its name", item('{"name":"n","type_name":"short","data":-1}'),
             typed(parsed, [("n", "short", -1)])),
        read("a whole double", item('{"name":"n","type":11,"data":3}'), typed(parsed, [("n", "double", 3.0)])),
        refused("nothing", b"", 0),
        refused("no container in it", b"{}", 2),
        refused("another version", b'{"container":{"version":"1.0","values":[]}}'),
        refused("no values", b'{"container":{"version":"2.0"}}'),
        refused("a key twice", b'{"container":{"version":"2.0","version":"2.0","values":[]}}', 40),
        refused("not UTF-8", b'{"container":"\xff"}', 14),
        refused("words behind", json2(NO_IDS, []) + b" x"),
        refused("a comma too many", b'{"container":{"version":"2.0","values":[],}}', 42),
        refused("an int that is none", item('{"name":"n","type":4,"data":2147483648}'), 40),
        refused("an int with a point", item('{"name":"n","type":4,"data":1.0}'), 40),
        refused("an int in quotes", item('{"name":"n","type":4,"data":"1"}'), 40),
        refused("no data", item('{"name":"n","type":4}'), 40),
        refused("no type", item('{"name":"n","data":1}'), 40),
        refused("an unknown type", item('{"name":"n","type":16,"data":1}'), 40),
        refused("two types", item('{"name":"n","type":4,"type_name":"uint","data":1}'), 40),
        refused("no base64", item('{"name":"n","type":13,"data":"A"}'), 40),
        refused("fewer values than counted", item('{"name":"n","type":15,"data":[],"element_count":1}'), 40),
        refused("an element with a name",
                item('{"name":"n","type":15,"data":[{"name":"x","type":0,"data":null}]}'), 40),
        refused("half a character", item('{"name":"\\ud83d","type":0,"data":null}'), 49),
        unwritable("infinite", "x", head, [("x", "double", float("inf"))]),
        unwritable("an element that is not UTF-8", "a/1", head, [("a", "array", [("int", 1), ("string", b"\xff")])]),
        unwritable("a value inside", "c/x", head, [("c", "container", (NO_IDS, [("x", "float", float("-inf"))]))]),
    ]


def cpp_json_vectors():
    head = header()
    parsed = header("data_container", "1.0", "", "", "", "")
    values = [value for value in SCALARS if value[1] not in ("null", "float")]
    return [
        both("without values or ids", cpp_json, NO_IDS, []),
        both("integers", cpp_json, head, INFERRED),
        both("scalars", cpp_json, head, values + PUNCTUATED),
        both("control characters", cpp_json, head, [("c\"\\", "string", "\x00\x1f\b\f\n\r\t/\x7f ")]),
        both("a name twice", cpp_json, head, [("n", "int", 1), ("n", "int", 2)]),
        write("types that are not in it", cpp_json(head, NUMBERS + [("f", "float", 0.5)]),
              typed(head, NUMBERS + [("f", "float", 0.5)])),
        read("null and exponents", b'{"values":{"n":null,"e":1e3}}',
             typed(parsed, [("n", "null", None), ("e", "double", 1000.0)])),
        refused("nothing", b"", 0),
        refused("no values", b'{"header":{}}', 13),
        refused("a value that is missing", b'{"header":{},"values":{"n":}}', 27),
        refused("an array", b'{"header":{},"values":{"n":[]}}', 27),
        refused("inf", b'{"header":{},"values":{"n":inf}}', 27),
        refused("too large an integer", b'{"header":{},"values":{"n":18446744073709551616}}', 27),
        refused("another key", b'{"header":{},"values":{},"more":1}', 32),
        refused("another field", b'{"header":{"more":"1"},"values":{}}', 18),
        unwritable("null", "x", head, [("x", "null", None)]),
        unwritable("bytes", "x", head, [("x", "bytes", b"")]),
        unwritable("infinite", "x", head, [("x", "float", float("inf"))]),
        unwritable("seven decimals", "x", head, [("x", "double", 0.0000001)]),
        unwritable("not UTF-8", "x", head, [("x", "string", b"\xff")]),
        unwritable("a container", "x", head, [("x", "container", (NO_IDS, []))]),
        unwritable("an array", "x", head, [("x", "array", [])]),
    ]


def xml_vectors():
    head = header()
    return [
        write("without values or ids", xml(NO_IDS, []), typed(NO_IDS, [])),
        write("every integer", xml(head, NUMBERS), typed(head, NUMBERS)),
        write("scalars", xml(head, SCALARS + PUNCTUATED), typed(head, SCALARS + PUNCTUATED)),
        write("escapes in the header", xml(header("<a>"), []), typed(header("<a>"), [])),
        write("names that are tags", xml(head, [("이름", "int", 1), ("_a-1.b", "int", 2)]),
              typed(head, [("이름", "int", 1), ("_a-1.b", "int", 2)])),
        refused("reading", xml(NO_IDS, [])),
        unwritable("a name that is no tag", "1a", head, [("1a", "int", 1)]),
        unwritable("a control character", "x", head, [("x", "string", "\x01")]),
        unwritable("a carriage return", "x", head, [("x", "string", "a\r\nb")]),
        unwritable("not UTF-8", "x", head, [("x", "string", b"\xff")]),
        unwritable("bytes", "x", head, [("x", "bytes", b"1")]),
        unwritable("a container", "x", head, [("x", "container", (NO_IDS, []))]),
        unwritable("seven decimals", "x", head, [("x", "double", 0.0000001)]),
    ]


def msgpack_vectors():
    head = header()
    sizes = [("s31", "string", "x" * 31), ("s32", "string", "x" * 32), ("s255", "string", "x" * 255),
             ("s256", "string", "x" * 256), ("b255", "bytes", b"\xee" * 255), ("b256", "bytes", b"\xee" * 256)]
    return [
        both("without values or ids", msgpack, NO_IDS, []),
        both("integers", msgpack, head, INFERRED),
        both("scalars", msgpack, head, SCALARS + PUNCTUATED),
        both("lengths", msgpack, head, sizes),
        both("16 values", msgpack, head, [(f"k{n}", "int", n) for n in range(16)]),
        both("a container", msgpack, head, [("c", "container", (header("in"), [("k", "int", 1)]))]),
        both("not UTF-8", msgpack, head, [("s", "string", b"\xff")]),
        refused("nothing", b""),
        refused("a number", b"\x01"),
        refused("cut short", msgpack(head, INFERRED)[:-1]),
    ]


def main():
    for name, vectors in (("text", text_vectors()), ("json", json2_vectors()), ("cpp-json", cpp_json_vectors()),
                          ("xml", xml_vectors()), ("msgpack", msgpack_vectors())):
        path = HERE / f"{name}.json"
        path.write_text(json.dumps({"format": name, "vectors": vectors}, indent=1, ensure_ascii=True) + "\n")
        print(f"{path.name}: {len(vectors)}")


main()
