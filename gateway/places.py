"""The settings, as the stores want to be told them."""

from gateway.addresses import with_password
from gateway.settings import Settings
from store.open import Places


def places_of(settings: Settings) -> Places:
    """Say where the stores are. Passwords that were given apart are put where the backends look for them."""
    return Places(
        data_dir=settings.data_dir,
        node_id=settings.node_id,
        database_url=_whole(settings.database_url, settings.database_password),
        database_password_file=settings.database_password_file,
        database_pool=settings.database_pool,
        database_timeout_s=settings.database_timeout_s,
        redis_url=_whole(settings.redis_url, settings.redis_password),
        redis_prefix=settings.redis_prefix,
    )


def _whole(url: str | None, password: str | None) -> str | None:
    return url if url is None or password is None else with_password(url, password)
