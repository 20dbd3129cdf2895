"""Opens the review store of a service and fills it with tasks from the run that is served."""

import logging
from pathlib import Path

from selfreward.config_serving import ServingConfig
from selfreward.errors import ConfigError, DataError
from selfreward.serving.keeper import Served
from selfreward.serving.review.queue import draw_tasks
from selfreward.serving.review.store import ReviewStore
from selfreward.serving.review_routes import ReviewDesk

_log = logging.getLogger("selfreward.serving")


def database_url(served: Served, config: ServingConfig) -> str:
    """SQLAlchemy's URL of the review answers.

    Raises:
        ConfigError: the state folder is no local one, where SQLite cannot be.
    """
    if config.review.database_url is not None:
        return config.review.database_url
    if "://" in served.state_dir:
        raise ConfigError(
            f"review answers cannot lie in {served.state_dir}: set serving.review.database_url to"
            " a PostgreSQL or SQLite URL, or serving.review.enabled=false"
        )
    folder = Path(served.state_dir)
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{folder.absolute() / 'review.sqlite'}"


def open_desk(served: Served, config: ServingConfig) -> ReviewDesk | None:
    """Returns the desk, None where review is switched off.

    Tasks of a run that are in the store already stay as they are, with their answers. A run that
    has nothing to review yet is told in the log and served all the same.

    Raises:
        ConfigError: the database does not open.
    """
    if not config.review.enabled:
        return None
    store = ReviewStore(database_url(served, config), seed=config.review.seed)
    if served.layout is not None:
        try:
            tasks = draw_tasks(served.layout, config.review.max_tasks, config.review.seed)
        except DataError as error:
            _log.warning("no review tasks: %s", error)
        else:
            _log.info("%d new review tasks", store.add_tasks(tasks))
    return ReviewDesk(store, served.layout)
