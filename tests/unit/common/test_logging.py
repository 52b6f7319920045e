from lavis.common.logging import visible


def test_no_text_gives_orders_to_a_terminal() -> None:
    orders = "".join(map(chr, (*range(0x20), *range(0x7F, 0xA0), 0x202E, 0x2066)))
    shown = visible(f"a{orders}b")
    assert len(shown) == len(orders) + 2
    assert all(sign.isprintable() or sign in "\t\n" for sign in shown)
    assert visible("a\x1b[2Jb") == "a\u241b[2Jb"


def test_other_text_stays_as_it_is() -> None:
    text = "naïve 映画 فيلم\u200f क्\u200dष 👩\u200d🚀 ½\tx\n"
    assert visible(text) == text
