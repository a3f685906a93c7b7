"""A library's policy as data: its clauses, what they demand of the settings, and which checks show that they are kept.

A policy tightens what a configuration leaves open, and refuses what it says to the contrary: nothing is weakened
silently, and nothing that was written down is changed silently.
"""

import re
import tomllib
from calendar import monthrange
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Final, Literal, NamedTuple, Self, cast, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo

from anonproxy.model.errors import OperatorError
from anonproxy.model.settings import PROFILES, Settings

_FOLDER: Final = files("anonproxy.model").joinpath("policies")
SUFFIX: Final = ".toml"

# What a library copies to write its own; it is nobody's policy.
TEMPLATE: Final = "template"

Relation = Literal["<=", ">=", "="]
Value = bool | int | float | str
ReadText = Callable[[str], str]

_DEMAND = re.compile(r"([a-z_]+\.[a-z0-9_]+) (<=|>=|=) (\S.*)")
_WORDS: Final[Mapping[Relation, str]] = {"<=": "at most ", ">=": "at least ", "=": ""}


class PolicyError(OperatorError):
    """A policy that doesn't exist or can't be read; the message says what to do."""


class Demand(NamedTuple):
    """What a clause asks of one setting."""

    setting: str
    relation: Relation
    value: Value

    @property
    def words(self) -> str:
        """Say what is demanded: `at most 90`."""
        return f"{_WORDS[self.relation]}{render_value(self.value)}"

    @property
    def key(self) -> tuple[str, str]:
        """Give section and field."""
        section, _, field = self.setting.partition(".")
        return section, field

    def is_met_by(self, value: Value) -> bool:
        """Tell whether a setting's value is at least as tight."""
        have, want = _rank(self.setting, value), _rank(self.setting, self.value)
        match self.relation:
            case "<=":
                return have <= want
            case ">=":
                return have >= want
            case _:
                return have == want

    @property
    def is_always_met(self) -> bool:
        """Tell whether the setting can't have a looser value, whatever the configuration."""
        bound = {"<=": "le", ">=": "ge"}.get(self.relation, "")
        limits = [getattr(item, bound) for item in _fields()[self.setting].metadata if hasattr(item, bound)]
        return any(self.is_met_by(limit) for limit in limits)

    def tighten(self, value: Value) -> Value:
        """Return the tighter of a setting's value and what is demanded."""
        return value if self.is_met_by(value) else self.value

    def read(self, settings: Settings) -> Value:
        """Give what the settings say."""
        section, field = self.key
        value: Value = getattr(getattr(settings, section), field)
        return value


def _parse_demand(text: object) -> object:
    match = _DEMAND.fullmatch(text) if isinstance(text, str) else None
    if not match:
        raise ValueError('not a demand; write "setting <= value", like "store.hits_days <= 90"')
    setting, relation, raw = match.groups()
    field = _fields().get(setting)
    if field is None:
        raise ValueError(f"{setting} is not a setting that a policy can tighten")
    try:
        value = tomllib.loads(f"value = {raw}")["value"]
        TypeAdapter(field.rebuild_annotation()).validate_python(value, strict=True)
    except (ValidationError, tomllib.TOMLDecodeError):
        raise ValueError(f"{setting} can't have this value; docs/settings.md says what it may be") from None
    return Demand(setting, cast(Relation, relation), value)


def _check_month(text: str) -> str:
    try:
        date.fromisoformat(text if len(text) > 7 else f"{text}-01")
    except ValueError:
        raise ValueError('not a date; write "2026-01" or "2026-01-31"') from None
    return text


Month = Annotated[str, BeforeValidator(str), AfterValidator(_check_month)]
Text = Annotated[str, Field(min_length=1)]
DemandField = Annotated[Any, BeforeValidator(_parse_demand)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Clause(_Part):
    """One promise: where it stands, what it says, how it is kept, what shows that, and what nothing here can show."""

    id: Text
    section: Text
    summary: Text
    how: str = ""
    demands: tuple[DemandField, ...] = ()
    checks: tuple[Text, ...] = ()
    outside: str = ""

    @model_validator(mode="after")
    def _check_answered(self) -> Self:
        if not (self.checks or self.outside):
            raise ValueError("nothing shows that it is kept; name checks, or say in `outside` why none can")
        return self


class Policy(_Part):
    """The clauses of a library's policy, and when it was approved and is to be reviewed."""

    name: Text
    library: Text
    title: Text
    approved: Month
    amended: Month | None = None
    review_by: Month | None = None
    clauses: Annotated[tuple[Clause, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _check_ids(self) -> Self:
        ids = [clause.id for clause in self.clauses]
        if len(set(ids)) < len(ids):
            raise ValueError("two clauses have the same id; give each its own")
        return self

    @property
    def demands(self) -> tuple[tuple[Clause, Demand], ...]:
        """List what all clauses demand, each with its clause."""
        return tuple((clause, demand) for clause in self.clauses for demand in clause.demands)

    def days_overdue(self, today: date) -> int:
        """Count the days since the policy should have been reviewed; none where it names no date."""
        return max(0, (today - last_day(self.review_by)).days) if self.review_by else 0


def last_day(month: str) -> date:
    """Give the day, or the last day of the month, that a date stands for."""
    if len(month) > 7:
        return date.fromisoformat(month)
    first = date.fromisoformat(f"{month}-01")
    return first.replace(day=monthrange(first.year, first.month)[1])


@cache
def policy_names() -> tuple[str, ...]:
    """List the policies that come with the software."""
    found = (item.name.removesuffix(SUFFIX) for item in _FOLDER.iterdir() if item.name.endswith(SUFFIX))
    return tuple(sorted(name for name in found if name != TEMPLATE))


def read_shipped(name: str) -> str:
    """Read the text of a policy that comes with the software, or of the template."""
    return _FOLDER.joinpath(f"{name}{SUFFIX}").read_text(encoding="utf-8")


def find_policy(name: str, read_text: ReadText | None = None) -> Policy:
    """Find a policy by its name, or by the path of a file of one's own, which the caller reads.

    Raises: PolicyError when there is none, or it has mistakes
    """
    if name in policy_names():
        return parse_policy(name, read_shipped(name))
    if read_text is None or not name.endswith(SUFFIX):
        raise PolicyError(f"no such policy; there are: {', '.join(policy_names())}; or the path of a .toml of your own")
    try:
        text = read_text(name)
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError(f"the policy {name} can't be read ({type(error).__name__}); correct the path") from None
    return parse_policy(name, text)


def parse_policy(name: str, text: str) -> Policy:
    """Parse a policy.

    Raises: PolicyError with every mistake in it
    """
    try:
        return Policy.model_validate({**tomllib.loads(text), "name": name})
    except tomllib.TOMLDecodeError as error:
        raise PolicyError(f"the policy {name} is not valid TOML: {error}") from None
    except ValidationError as error:
        mistakes = ", ".join(
            f"{'.'.join(map(str, detail['loc'])) or 'policy'}: {detail['msg'].removeprefix('Value error, ')}"
            for detail in error.errors(include_url=False, include_input=False)
        )
        raise PolicyError(f"the policy {name} has mistakes: {mistakes}") from None


def tighten(data: Mapping[str, Any], policy: Policy) -> dict[str, Any]:
    """Fill in what a configuration leaves open, where its default is looser than the policy demands."""
    tightened = dict(data)
    profile = PROFILES.get(str(data.get("profile", "standard")), {})
    for demand in (demand for _, demand in policy.demands):
        section, name = demand.key
        given = data.get(section, {})
        if not isinstance(given, dict) or name in given:
            continue
        default = profile.get(section, {}).get(name, _fields()[demand.setting].get_default())
        now = tightened.get(section, {}).get(name, default)
        if not demand.is_met_by(now):
            tightened[section] = {**tightened.get(section, {}), name: demand.tighten(now)}
    return tightened


def hold_to(policy: Policy) -> Callable[[type[BaseModel], str, Any], None]:
    """Return what refuses a value that is looser than the policy demands, for the settings' own validation.

    Raises: ValueError, by the function that is returned
    """
    demanded: dict[tuple[object, str], list[tuple[Clause, Demand]]] = {}
    for clause, demand in policy.demands:
        section, name = demand.key
        demanded.setdefault((Settings.model_fields[section].annotation, name), []).append((clause, demand))

    def refuse_looser(section: type[BaseModel], name: str, value: Any) -> None:
        broken = [
            (clause, demand) for clause, demand in demanded.get((section, name), ()) if not demand.is_met_by(value)
        ]
        if broken:
            clauses = ", ".join(f"{clause.id} demands {demand.words}" for clause, demand in broken)
            _, tightest = broken[0]
            for _, demand in broken[1:]:
                tightest = demand if not demand.is_met_by(tightest.value) else tightest
            raise ValueError(
                f"looser than the policy of {policy.library} allows, where {clauses}; "
                f"write {_remedy(tightest)}, or leave it out"
            )

    return refuse_looser


def _remedy(demand: Demand) -> str:
    if scale := _scale(demand.setting):
        return " or ".join(render_value(choice) for choice in scale if demand.is_met_by(choice))
    ending = {"<=": " or less", ">=": " or more", "=": ""}[demand.relation]
    return f"{render_value(demand.value)}{ending}"


def render_value(value: Value) -> str:
    """Write a value as it stands in a configuration."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return f'"{value}"'
        case _:
            return str(value)


@cache
def _fields() -> Mapping[str, FieldInfo]:
    """List the settings that a policy can tighten: single values of the sections that exist once."""
    sections: Iterable[tuple[str, Any]] = ((name, field.annotation) for name, field in Settings.model_fields.items())
    return {
        f"{name}.{field_name}": field
        for name, section in sections
        if isinstance(section, type) and issubclass(section, BaseModel)
        for field_name, field in section.model_fields.items()
        if field.annotation in (bool, int, float) or get_origin(field.annotation) is Literal
    }


def _scale(setting: str) -> tuple[str, ...]:
    """Give the choices of a setting in the order of the settings model, by which they are compared."""
    annotation = _fields()[setting].annotation
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def _rank(setting: str, value: Value) -> float:
    scale = _scale(setting)
    return scale.index(str(value)) if scale else float(value)
