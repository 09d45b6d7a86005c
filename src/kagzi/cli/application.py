"""Finding the application that `module:app` names."""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING

import click

from kagzi.cli.errors import Refused

if TYPE_CHECKING:
    from kagzi.app.kagzi import Kagzi


def load_application(target: str, *, database_url: str | None = None) -> Kagzi:
    """Import what `module:app` names, or the only Kagzi of `module`; the current folder is looked into first.

    `database_url` replaces the application's own. Raises Refused.
    """
    from dataclasses import replace

    name, _, path = target.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    module = _import(name)
    application = _attribute(module, path) if path else _only_one(module)
    if database_url is not None:
        application.settings = replace(application.settings, database_url=database_url)
    return application


def _import(name: str) -> ModuleType:
    if name.endswith(".py"):
        raise Refused(f"{name!r} is a file. Give the module's name, without .py and with dots for folders.")
    if not all(part.isidentifier() for part in name.split(".")):
        raise Refused(f"{name!r} is not the name of a module. Give it as in an import: shop.flows")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise Refused(
                f"there is no module {name!r} in {Path.cwd()}, nor among the packages that are installed."
            ) from error
        raise _broken(name, error) from error
    except Exception as error:
        raise _broken(name, error) from error


def _broken(name: str, error: Exception) -> Refused:
    click.echo(
        "".join(traceback.format_exception(type(error), error, _within(error.__traceback__))), err=True, nl=False
    )
    return Refused(f"module {name!r} could not be imported: {type(error).__name__}: {error}")


def _within(trace: TracebackType | None) -> TracebackType | None:
    """The traceback without this file and Python's own import machinery at its outer end."""
    inner = trace
    while inner is not None and (
        inner.tb_frame.f_code.co_filename in (__file__, importlib.__file__)
        or inner.tb_frame.f_code.co_filename.startswith("<frozen importlib")
    ):
        inner = inner.tb_next
    return inner or trace


def _attribute(module: ModuleType, path: str) -> Kagzi:
    from kagzi.app.faces import application_of

    found: object = module
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            names = ", ".join(_applications(module)) or "none"
            raise Refused(f"module {module.__name__!r} has no {path!r}. The applications in it: {names}.") from error
    application = application_of(found)
    if application is None:
        raise Refused(f"{module.__name__}:{path} is of type {type(found).__name__}, but must be a Kagzi application.")
    return application


def _only_one(module: ModuleType) -> Kagzi:
    found = _applications(module)
    applications = list({id(each): each for each in found.values()}.values())
    if len(applications) == 1:
        return applications[0]
    if not applications:
        raise Refused(f"module {module.__name__!r} holds no Kagzi application: `app = Kagzi(...)`.")
    choices = ", ".join(f"{module.__name__}:{name}" for name in found)
    raise Refused(f"module {module.__name__!r} holds several applications. Name one of: {choices}.")


def _applications(module: ModuleType) -> dict[str, Kagzi]:
    from kagzi.app.faces import application_of

    found = {name: application_of(value) for name, value in vars(module).items()}
    return {name: application for name, application in found.items() if application is not None}
