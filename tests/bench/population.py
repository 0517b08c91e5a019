"""The studies of a hospital group, made up: names, dates, accession numbers and modalities as they come.

A study follows from its number alone, and the numbers are in the order of time: the first 10,000 studies are
the first weeks of what will be 1,300,000 in fifteen years, at the same number a day. However many there are,
a patient has as many of them, so that what a query finds does not grow with them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

T = TypeVar("T")

_BEGIN: Final = datetime(2010, 1, 4, tzinfo=UTC)
_SECONDS_APART: Final = 364
"""1,300,000 studies in 15 years."""
_DEVICES: Final = 40
_MASK: Final = (1 << 64) - 1
_JAPANESE_PERCENT: Final = 8

_KINDS: Final = (
    *(("CR", 22, "1"), ("DX", 22, "1.1"), ("CT", 18, "2"), ("MR", 14, "4"), ("US", 14, "6.1")),
    *(("MG", 4, "1.2"), ("XA", 2, "12.1"), ("NM", 2, "20"), ("PT", 1, "128"), ("RF", 1, "12.2")),
)
"""Modality, its share of a hundred studies, and the end of its SOP class."""
_KIND_OF_HUNDRED: Final = tuple(
    (modality, f"1.2.840.10008.5.1.4.1.1.{end}") for modality, share, end in _KINDS for _ in range(share)
)

_STEMS: Final = (
    *("Ander", "Berg", "Brand", "Bück", "Dahl", "Eich", "Falken", "Gar", "Grön", "Hart", "Hav", "Hol"),
    *("Jan", "Kal", "Kirch", "Klein", "Kov", "Lind", "Lund", "Mar", "Mei", "Mül", "Nor", "Ols", "Öst"),
    *("Peter", "Quint", "Rich", "Rosen", "Sand", "Schön", "Silber", "Stein", "Sund", "Tor", "Vil", "Wald"),
    *("Weiß", "Wester", "Zimmer"),
)
_ENDS: Final = (
    *("acs", "bach", "berg", "blom", "by", "cía", "dal", "dorf", "ell", "ez", "feld", "gaard", "gren"),
    *("haus", "hold", "holm", "kamp", "ler", "li", "lund", "mann", "mark", "meyer", "nes", "ović", "quist"),
    *(
        "rud",
        "sen",
        "ski",
        "son",
        "stad",
        "stedt",
        "ström",
        "ter",
        "thal",
        "vik",
        "wall",
        "wicz",
        "wood",
        "žek",
    ),
)
_GIVEN: Final = (
    *("Anna", "André", "Aïcha", "Björn", "Carla", "Chloé", "David", "Elif", "Emma", "Eszter", "Fatima"),
    *("François", "Grace", "Hanna", "Hélène", "Ivan", "Jan", "John", "José", "Karin", "Lars", "Lena"),
    *("Łukasz", "Maria", "María", "Mehmet", "Mia", "Nadia", "Noah", "Olga", "Oskar", "Paul", "Petra"),
    *("Quentin", "René", "Rita", "Samir", "Sofía", "Søren", "Tomáš", "Ursula", "Vera", "Wim", "Yusuf", "Zoë"),
)
_JAPANESE_FAMILIES: Final = (
    (
        *(("Yama", "山", "やま"), ("Kawa", "川", "かわ"), ("Ishi", "石", "いし"), ("Taka", "高", "たか")),
        *(("Naka", "中", "なか"), ("Matsu", "松", "まつ"), ("Mura", "村", "むら"), ("Mori", "森", "もり")),
        *(("Oo", "大", "おお"), ("Ko", "小", "こ"), ("Nishi", "西", "にし"), ("Kita", "北", "きた")),
    ),
    (
        *(("da", "田", "だ"), ("moto", "本", "もと"), ("guchi", "口", "ぐち"), ("shima", "島", "しま")),
        *(("hara", "原", "はら"), ("no", "野", "の"), ("i", "井", "い"), ("gami", "上", "がみ")),
        *(("sawa", "沢", "さわ"), ("mori", "森", "もり")),
    ),
)
_JAPANESE_GIVEN: Final = (
    (
        *(("Ken", "健", "けん"), ("Masa", "正", "まさ"), ("Yoshi", "義", "よし"), ("Kazu", "和", "かず")),
        *(("Haru", "春", "はる"), ("Aki", "秋", "あき"), ("Tomo", "友", "とも"), ("Mi", "美", "み")),
    ),
    (
        *(("ichi", "一", "いち"), ("ji", "二", "じ"), ("ta", "太", "た"), ("ya", "也", "や")),
        *(("ko", "子", "こ"), ("mi", "美", "み"), ("e", "恵", "え"), ("hiko", "彦", "ひこ")),
    ),
)
"""First and second parts: in letters, in ideographs, in kana."""
_REGIONS: Final = ("skull", "thorax", "abdomen", "pelvis", "knee left", "knee right", "spine", "hand", "foot")


@dataclass(frozen=True, slots=True)
class Study:
    """One study, with one series."""

    number: int
    study_instance_uid: str
    series_instance_uid: str
    modality: str
    sop_class_uid: str
    received_at: datetime
    values: Mapping[int, str]
    """What it says of its patient, itself and its series, by tag, several values apart by backslashes."""

    def sop_instance_uid(self, instance: int = 0) -> str:
        """Return the UID of one of its instances."""
        return f"{self.series_instance_uid}.{instance + 1}"


def study(number: int) -> Study:
    """Return the study of a number, from 0."""
    chance = _chance(number)
    at = _BEGIN + timedelta(seconds=_SECONDS_APART * number)
    date, time = at.strftime("%Y%m%d"), at.strftime("%H%M%S")
    device, chance = chance % _DEVICES, chance // _DEVICES
    (modality, sop_class_uid), chance = _pick(_KIND_OF_HUNDRED, chance)
    region, chance = _pick(_REGIONS, chance)
    referrer, chance = _pick(_GIVEN, chance)
    study_uid = f"1.3.12.2.1107.5.1.4.{60000 + device}.30000{date}{time}{number:08d}"
    values = {
        **_patient(chance % (number * 2 // 5 + 1)),
        0x00080020: date,
        0x00080021: date,
        0x00080023: date,
        0x00080030: time,
        0x00080031: time,
        0x00080033: time,
        0x00080050: f"A{date}{number % 10**7:07d}",
        0x00080060: modality,
        0x00080090: f"Referrer^{referrer}",
        0x00081030: f"{modality} {region}",
        0x0008103E: region,
        0x00180015: region.split()[0].upper(),
        0x00200010: str(number),
        0x00200011: "1",
        0x00200013: "1",
        0x00400244: date,
        0x00400245: time,
    }
    return Study(number, study_uid, f"{study_uid}.1", modality, sop_class_uid, at, values)


def _patient(number: int) -> Mapping[int, str]:
    chance = _chance(~number)
    born = datetime(1925, 1, 1, tzinfo=UTC) + timedelta(days=chance % 33000)
    return {
        0x00100010: _name(chance >> 16),
        0x00100020: f"{number * 7919 % 10_000_019:08d}",
        0x00100021: ("NORTH", "SOUTH")[number % 2],
        0x00100030: born.strftime("%Y%m%d"),
        0x00100040: "MF"[chance % 2],
    }


def _name(chance: int) -> str:
    """Return a name; the first of each list are those of many, the last those of few."""
    is_japanese, chance = chance % 100 < _JAPANESE_PERCENT, chance // 100
    if is_japanese:
        parts = []
        for among in (*_JAPANESE_FAMILIES, *_JAPANESE_GIVEN):
            part, chance = _pick(among, chance)
            parts.append(part)
        return "=".join(f"{one}{two}^{three}{four}" for one, two, three, four in zip(*parts, strict=True))
    stem, chance = _pick_skewed(_STEMS, chance)
    end, chance = _pick_skewed(_ENDS, chance)
    first, chance = _pick_skewed(_GIVEN, chance)
    second, chance = _pick(_GIVEN, chance)
    return f"{stem}{end}^{first}^{second}" if chance % 3 == 0 else f"{stem}{end}^{first}"


def _pick(among: Sequence[T], chance: int) -> tuple[T, int]:
    rest, at = divmod(chance, len(among))
    return among[at], rest


def _pick_skewed(among: Sequence[T], chance: int) -> tuple[T, int]:
    chance, one = divmod(chance, len(among))
    chance, other = divmod(chance, len(among))
    return among[min(one, other)], chance


def _chance(number: int) -> int:
    """Return 64 bits that follow from a number, and look like chance (SplitMix64)."""
    mixed = (number * 0x9E3779B97F4A7C15 + 0x1234567) & _MASK
    mixed = ((mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ mixed >> 27) * 0x94D049BB133111EB) & _MASK
    return mixed ^ mixed >> 31
