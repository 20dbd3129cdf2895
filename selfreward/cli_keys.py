"""The commands `selfreward keys add`, `list` and `revoke`.

Heavy imports wait for their command.
"""

from typing import TYPE_CHECKING, Annotated, cast

import typer

if TYPE_CHECKING:
    from selfreward.serving.keys import Role

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="API keys of the judge service.",
)

_File = Annotated[str, typer.Option("--file", help="The keys file, as in auth.keys_file.")]


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Whose key it is, e.g. ci; it appears in logs.")],
    file: _File,
    role: Annotated[str, typer.Option(help="user, or admin: may change the judge.")] = "user",
) -> None:
    """Make a key and print it, this once; only its digest is kept."""
    from selfreward.serving.keys import ENVIRONMENT, add_key, digest_of

    key = add_key(file, name, cast("Role", role))
    typer.echo(key)
    # Apart from the key, so that `KEY=$(selfreward keys add …)` is the key alone.
    typer.echo(f"kept as a digest in {file}; serve with auth.keys_file={file}", err=True)
    typer.echo(f"or with {ENVIRONMENT}={name}:{role}:{digest_of(key)}", err=True)


@app.command("list")
def list_(file: _File) -> None:
    """Name the keys of a file: id, name, role, when it was made."""
    from selfreward.serving.keys import list_keys

    for entry in list_keys(file):
        typer.echo(f"{entry.id}  {entry.created}  {entry.role:5}  {entry.name}")


@app.command()
def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The key's name or id.")],
    file: _File,
) -> None:
    """Take a key out of a file; a running service refuses it from its next request on."""
    from selfreward.serving.keys import revoke_key

    gone = revoke_key(file, name)
    typer.echo(f"revoked {gone.name} ({gone.id}, {gone.role})")
