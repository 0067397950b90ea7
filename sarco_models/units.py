"""Units of measurement: what a hospital's column is in, and the straight line to the unit that the study declares.

A conversion is made only between units of one kind, and between grams and moles only for an analyte whose molar mass is
agreed upon. Everything else is refused, with the units that are known. Nothing is ever guessed from the values.

Sources: molar masses are those of the molecular formulas with IUPAC's standard atomic weights (Prohaska et al. 2022);
they give the factors of the AMA Manual of Style (SI conversion table). Triglycerides count as triolein, 25-OH vitamin D
as D3. Haemoglobin in moles means the monomer with one iron atom (16 114.5 g/mol, ICSH 1978), as hospitals report it;
the tetramer's factor, a quarter of it, is in use for MCHC only. HbA1c: NGSP = 0.0915 IFCC + 2.15 (Hoelzel et al. 2004).
Osteocalcin, PTH and other peptides have no agreed mass: grams only. Inch and pound are exact by definition; a jin (斤)
is the mainland's half kilogram.
"""

import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import overload

import numpy as np
from numpy.typing import NDArray

from sarco_models.errors import ConfigError

_MASSES = {"g": 0, "mg": -3, "ug": -6, "ng": -9, "pg": -12}
_AMOUNTS = {"mol": 0, "mmol": -3, "umol": -6, "nmol": -9, "pmol": -12}
_ACTIVITIES = {"IU": 3, "mIU": 0, "uIU": -3}
_VOLUMES = {"L": 0, "dL": -1, "mL": -3}


def _per_volume(parts: dict[str, int]) -> dict[str, Fraction]:
    return {
        f"{part}/{volume}": Fraction(10) ** (power - of_volume)
        for volume, of_volume in _VOLUMES.items()
        for part, power in parts.items()
    }


_KINDS: dict[str, dict[str, Fraction]] = {
    "mass concentration": _per_volume(_MASSES),
    "amount concentration": _per_volume(_AMOUNTS),
    "activity": _per_volume(_ACTIVITIES),
    "length": {
        "m": Fraction(1),
        "cm": Fraction("0.01"),
        "mm": Fraction("0.001"),
        "in": Fraction("0.0254"),
        "ft": Fraction("0.3048"),
    },
    "mass": {
        "kg": Fraction(1),
        "g": Fraction("0.001"),
        "lb": Fraction("0.45359237"),
        "jin": Fraction("0.5"),
    },
    "age": {"years": Fraction(1), "months": Fraction(1, 12)},
    "body mass index": {"kg/m2": Fraction(1)},
    "area": {"m2": Fraction(1), "cm2": Fraction("0.0001"), "mm2": Fraction("0.000001")},
    "area index": {"cm2/m2": Fraction(1), "mm2/m2": Fraction("0.01")},
    "speed": {"m/s": Fraction(1), "cm/s": Fraction("0.01"), "km/h": Fraction(5, 18)},
    "time": {"s": Fraction(1), "min": Fraction(60)},
    "percentage": {"%": Fraction(1)},
    "ratio": {"mmol/mol": Fraction(1)},
}
"""Kind -> unit -> its size; sizes of one kind can be divided by each other."""

_SIZES = {unit: (kind, size) for kind, units in _KINDS.items() for unit, size in units.items()}

_SPELLINGS = {
    "m": "metre meter metres meters",
    "cm": "centimetre centimeter centimetres centimeters centimètre centimètres centimetro zentimeter 公分",
    "mm": "millimetre millimeter millimetres millimeters",
    "in": 'inch inches " zoll pollici pulgadas',
    "ft": "foot feet '",
    "kg": "kgs kilogram kilograms kilo kilogramm kilogramme kilogrammes 公斤",
    "g": "gm gram grams gramm gramme grammes",
    "lb": "lbs pound pounds 磅",
    "jin": "斤 市斤",
    "years": "year yr yrs y yo jahre jahr ans an annees años año anni anno anos ano jaar jaren lat rok yıl yaş лет год "
    "岁 歲 歳 才 세 년",
    "months": "month mo mon monate mois meses mesi maanden 月 个月 個月 ヶ月 개월",
    "s": "sec secs second seconds sek 秒 초 сек с",
    "min": "mins minute minutes 分钟 分鐘",
    "%": "percent pct prozent %ngsp ngsp% ngsp %(ngsp) %(dcct) %dcct dcct",
    "mmol/mol": "mmol/mol(ifcc) mmol/molhb mmol/molhba1c ifcc mmol/molifcc",
    "g/dL": "g% gm% g/100ml gm/dl",
    "mg/dL": "mg% mg/100ml",
    "ug/dL": "ug% ug/100ml",
    "ng/dL": "ng% ng/100ml",
    "m/s": "m/sec",
}
_CHINESE = {
    "毫国际单位": "miu", "微国际单位": "uiu", "国际单位": "iu", "毫摩尔": "mmol", "微摩尔": "umol", "纳摩尔": "nmol",
    "皮摩尔": "pmol", "毫摩": "mmol", "微摩": "umol", "纳摩": "nmol", "皮摩": "pmol", "摩尔": "mol", "毫克": "mg",
    "微克": "ug", "纳克": "ng", "皮克": "pg", "千克": "kg", "公斤": "kg", "克": "g", "毫升": "ml", "分升": "dl",
    "升": "l", "平方厘米": "cm2", "平方米": "m2", "厘米": "cm", "毫米": "mm", "公分": "cm", "米": "m", "每": "/",
}  # fmt: skip
_WORDS = re.compile("|".join(sorted(map(re.escape, _CHINESE), key=len, reverse=True)))


@dataclass(frozen=True)
class Conversion:
    """A straight line from one unit to another: ``factor * value + offset``."""

    factor: float
    offset: float = 0.0

    @overload
    def __call__(self, value: float) -> float: ...
    @overload
    def __call__(self, value: NDArray[np.float64]) -> NDArray[np.float64]: ...
    def __call__(self, value: float | NDArray[np.float64]) -> float | NDArray[np.float64]:
        """The value in the target's unit; NaN stays NaN."""
        return self.factor * value + self.offset


@dataclass(frozen=True)
class _Analyte:
    """Names of a measured thing, the units that hospitals report it in, and g/mol where grams may become moles."""

    names: str
    units: str
    molar_mass: str = ""


_ANALYTES = (
    _Analyte("total_cholesterol cholesterol chol tc hdl hdl_c hdl_cholesterol ldl ldl_c ldl_cholesterol non_hdl vldl",
             "mmol/L mg/dL g/L", "386.66"),  # C27H46O
    _Analyte("triglycerides triglyceride tg triacylglycerol", "mmol/L mg/dL g/L", "885.45"),  # C57H104O6
    _Analyte("glucose blood_glucose fasting_glucose fpg glu", "mmol/L mg/dL g/L", "180.156"),  # C6H12O6
    _Analyte("creatinine crea scr cr", "umol/L mg/dL mg/L", "113.12"),  # C4H7N3O
    _Analyte("urea", "mmol/L mg/dL g/L", "60.056"),  # CH4N2O; urea nitrogen (BUN) is another quantity
    _Analyte("uric_acid urate ua", "umol/L mg/dL mg/L", "168.112"),  # C5H4N4O3
    _Analyte("bilirubin total_bilirubin tbil", "umol/L mg/dL mg/L", "584.673"),  # C33H36N4O6
    _Analyte("calcium ca", "mmol/L mg/dL mg/L", "40.078"),
    _Analyte("testosterone", "nmol/L ng/dL ng/mL ug/L", "288.431"),  # C19H28O2
    _Analyte("cortisol", "nmol/L ug/dL ng/mL ug/L", "362.466"),  # C21H30O5
    _Analyte("vitd_25oh vitamin_d vit_d vitd 25oh_d 25_oh_d 25ohd 25_hydroxyvitamin_d calcidiol",
             "ng/mL nmol/L ug/L", "400.647"),  # C27H44O2
    _Analyte("ft3 free_t3", "pmol/L pg/mL ng/L pg/dL ng/dL", "650.977"),  # C15H12I3NO4
    _Analyte("ft4 free_t4", "pmol/L ng/dL ng/L pg/mL", "776.874"),  # C15H11I4NO4
    _Analyte("tt3 total_t3 t3 triiodothyronine", "nmol/L ng/dL ng/mL ug/L", "650.977"),
    _Analyte("tt4 total_t4 t4 thyroxine", "nmol/L ug/dL ng/mL ug/L", "776.874"),
    _Analyte("haemoglobin hemoglobin hb hgb", "g/L g/dL mmol/L", "16114.5"),  # per iron atom
    _Analyte("albumin alb total_protein globulin", "g/L g/dL mg/mL"),
    _Analyte("prealbumin crp hs_crp transferrin", "mg/L mg/dL g/L ug/mL"),
    _Analyte("osteocalcin oc ferritin igf_1", "ng/mL ug/L ng/dL"),
    _Analyte("pth", "pg/mL ng/L"),
    _Analyte("tsh thyrotropin", "mIU/L uIU/mL IU/L"),
    _Analyte("hba1c a1c ghb glycated_haemoglobin glycated_hemoglobin", "% mmol/mol"),
    _Analyte("height stature", "m cm mm in ft"),
    _Analyte("calf calf_circumference waist waist_circumference arm_circumference", "cm mm m in"),
    _Analyte("weight body_weight", "kg g lb jin"),
    _Analyte("age", "years months"),
    _Analyte("bmi body_mass_index", "kg/m2"),
)  # fmt: skip
_BY_NAME = {name: analyte for analyte in _ANALYTES for name in analyte.names.split()}
_QUALIFIERS = {"serum", "plasma", "blood", "fasting", "s", "p", "b"}
_HBA1C = _BY_NAME["hba1c"]
_NGSP = Conversion(0.0915, 2.15)  # mmol/mol (IFCC) -> % (NGSP)


@cache
def canonical(unit: str) -> str:
    """The one spelling of a unit that this module uses, such as "umol/L" for "μmol·L⁻¹"; "" when it is not known."""
    return _canonicals().get(_plain(unit), "")


@cache
def name_and_unit(column: str) -> tuple[str, str]:
    """Split a column's name: "albumin_g_per_dl" is ("albumin", "g/dL"); the unit is "" where the name holds none."""
    parts = column.casefold().split("_")
    for k in range(1, len(parts)):
        unit = canonical("_".join(parts[k:]))
        if unit:
            return "_".join(parts[:k]), unit
    return "_".join(parts), ""


def units_of(quantity: str) -> tuple[str, ...]:
    """The usual units of a quantity ("albumin", "albumin_g_per_l"); () when nothing is known of it.

    Of a quantity that is not in the table the unit in its name says the kind, and all units of the kind are told.
    """
    name, unit = name_and_unit(quantity)
    analyte = _analyte(name)
    if analyte:
        return tuple(analyte.units.split())
    return tuple(_KINDS[_SIZES[unit][0]]) if unit else ()


def conversion(quantity: str, source: str, target: str) -> Conversion:
    """The way from one unit of a quantity to another; unusual units of the right kind are taken, too.

    Args:
        quantity: a feature or analyte, such as "hdl_mmol_per_l" or "hdl".
        source: the hospital's unit, in any known spelling.
        target: the study's unit.

    Raises:
        ConfigError: a unit is not known, or the two are not of one kind; names the known ones.
    """
    given, wanted = canonical(source), canonical(target)
    if _plain(source) == _plain(target) or (given and given == wanted):
        return Conversion(1.0)
    name, _ = name_and_unit(quantity)
    line = _line(_analyte(name), given, wanted) if given and wanted else None
    if line is None:
        what = f"{given} cannot become {wanted or 'the unit of the study'}" if given else "is not known"
        known = units_of(quantity) or units_of(f"{name}_{target}")
        raise ConfigError(
            f"{name}: the unit {what}; known for it: {', '.join(known) or 'none'}; "
            "name one of them, or convert the column before"
        )
    return line


def _line(analyte: _Analyte | None, source: str, target: str) -> Conversion | None:
    """None where there is no way; both units are known and differ."""
    (kind, size), (wanted_kind, wanted_size) = _SIZES[source], _SIZES[target]
    if kind == wanted_kind:
        return Conversion(float(size / wanted_size))
    if analyte is _HBA1C and {kind, wanted_kind} == {"percentage", "ratio"}:
        return _NGSP if target == "%" else Conversion(1 / _NGSP.factor, -_NGSP.offset / _NGSP.factor)
    if analyte and analyte.molar_mass and {kind, wanted_kind} == {"mass concentration", "amount concentration"}:
        mass = Fraction(analyte.molar_mass)
        return Conversion(float(size / wanted_size * (mass if kind == "amount concentration" else 1 / mass)))
    return None


def _analyte(name: str) -> _Analyte | None:
    parts = name.split("_")
    while len(parts) > 1 and parts[0] in _QUALIFIERS and "_".join(parts) not in _BY_NAME:
        parts = parts[1:]
    return _BY_NAME.get("_".join(parts))


@cache
def _canonicals() -> dict[str, str]:
    """Plain spelling -> canonical one."""
    known = {_plain(unit): unit for unit in _SIZES}
    known |= {_plain(unit.replace("IU", "U")): unit for unit in _KINDS["activity"]}
    for unit, spellings in _SPELLINGS.items():
        known |= {_plain(spelling): unit for spelling in spellings.split()}
    return known


def _plain(unit: str) -> str:
    """Lower case, no spaces, a slash for every "per", u for micro."""
    text = unicodedata.normalize("NFKC", unit).casefold()
    text = _WORDS.sub(lambda match: _CHINESE[match.group()], text)
    text = text.replace("μ", "u").replace("mcg", "ug").replace("mciu", "uiu").replace("_per_", "/").replace("−", "-")
    text = re.sub(r"\blit(?:er|re)s?\b", "l", text)
    text = re.sub(r"\s+per\s+|⁄|∕", "/", text)
    text = re.sub(r"[\s·⋅∙•*.]*\b(dl|ml|l|mol|s)\^?-1\b", r"/\1", text)
    text = re.sub(r"[\s·⋅∙•*.]*\bm\^?-2\b", "/m2", text)
    return re.sub(r"[\s\^\[\]_]", "", text).rstrip(".")
