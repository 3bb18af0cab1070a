"""One typed settings object. `Settings()` works in an empty environment; every field can be set by STATIONMASTER_<NAME>."""

from pathlib import Path

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Settings of one installation, read from the environment and from `.env` in the working directory."""

    model_config = SettingsConfigDict(env_prefix="STATIONMASTER_", env_file=".env", extra="ignore", env_ignore_empty=True)

    home: Path = Field(
        default_factory=lambda: Path("~/.stationmaster").expanduser(), description="Folder of all data that has no URL of its own"
    )
    database_url: str = Field("", description="SQLAlchemy URL; empty means SQLite under `home`")
    redis_url: SecretStr = Field(SecretStr(""), description="redis:// URL; empty means the embedded Valkey under `home`")
    storage_url: str = Field("", description="fsspec URL of images, checkpoints and models; empty means a folder under `home`")
    cache_dir: Path | None = Field(None, description="Host-local cache of decoded images; empty means a folder under `home`")
    weights_dir: Path | None = Field(None, description="Folder that holds pre-trained weights, for hosts that cannot reach a hub")
    presets_dir: Path | None = Field(None, description="Folder of your own prepared applications; empty means `presets` under `home`")
    offline: bool = Field(False, description="Never try to download weights")
    allow_licences: str = Field(
        "", description="SPDX licences of weights allowed besides Apache-2.0, MIT and BSD, comma-separated; * allows all"
    )
    queue_prefix: str = Field("stationmaster", pattern=r"^[a-z0-9-]{1,40}$", description="Keeps installations on one Redis apart")

    workspace: str = Field("default", description="Workspace of the command line, and of all faces unless `workspace_per_team`")
    workspace_per_team: bool = Field(False, description="One workspace per Slack team or Discord server")
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")

    draft_days: float = Field(
        7,
        gt=0,
        description="Drafts untouched and imports undecided for so many days expire, and results of tests in the storage are deleted",
    )
    max_waiting_tasks: int = Field(20, ge=1, description="Tasks one person may have waiting")
    max_attempts: int = Field(5, ge=1, description="How often in a row a job may be lost without progress before it ends in error")
    heartbeat_seconds: float = Field(5, gt=0, description="How often a running job says that it lives")
    lost_after_seconds: float = Field(30, gt=0, description="A running job silent for so long is taken to be lost")
    checkpoint_seconds: float = Field(300, gt=0, description="Longest time between two checkpoints within an epoch")
    auto_gpu_hours: float = Field(0, ge=0, description="What auto tuning may spend on one task; 0 trains one good recipe")
    resident_share: float = Field(
        0.25, ge=0, le=1, description="Share of a GPU's free memory that a job's images and masks may take; what needs more is streamed"
    )
    cache_bytes: int = Field(
        0,
        ge=0,
        description="The most that decoded images and masks may take in a host's cache; 0: what the disk has. Sets that do not fit are decoded anew in each epoch",
    )
    host_image_bytes: int = Field(
        8_000_000_000,
        ge=1_000_000,
        description="So much of its decoded images a job holds in the host's memory; the rest is read from the cache",
    )
    compile: str = Field(
        "auto", pattern="^(auto|always|never)$", description="torch.compile: auto tries it on GPUs in trainings long enough for it to pay"
    )
    devices_per_job: int = Field(1, ge=1, le=64, description="GPUs that train one job together; each gpu worker owns so many")
    min_free_bytes: int = Field(500_000_000, ge=0, description="Refuse to start writing when less disk is free")

    chat_import_prefixes: str = Field(
        "", description="Comma-separated beginnings of URIs that a chat may import from, such as s3://our-bucket/"
    )
    max_archive_bytes: int = Field(20_000_000_000, ge=1)
    max_images: int = Field(2_000_000, ge=1)
    max_image_pixels: int = Field(400_000_000, ge=1, description="Larger images are refused as decompression bombs")

    announcement_links: str = Field(
        "", description="Results are announced there too: comma-separated pairs of channels such as slack:T1/C1=discord:42"
    )
    slack_bot_token: SecretStr = SecretStr("")
    slack_app_token: SecretStr = SecretStr("")
    slack_signing_secret: SecretStr = SecretStr("")
    slack_api_url: str = Field("https://slack.com/api/", description="Base of Slack's Web API")
    slack_client_id: str = Field(
        "", description="With the client secret: teams install the app themselves, over HTTP, each with a workspace of its own"
    )
    slack_client_secret: SecretStr = SecretStr("")
    slack_port: int = Field(3000, ge=0, le=65535, description="Port for Slack's requests where there is no app token for Socket Mode")
    slack_admins: str = Field(
        "", description="User ids that may stop, rename and delete everything besides Slack's own admins, comma-separated"
    )
    slack_people: str = Field("", description="User ids that may use the bot, comma-separated; empty: everybody")
    slack_channels: str = Field("", description="Channel ids in which the bot works, comma-separated, `im` for direct messages; empty: all")
    slack_announcements: str = Field("", description="Channel id for results; empty: the channel in which the training was started")
    discord_token: SecretStr = SecretStr("")
    discord_admin_roles: str = Field("", description="Comma-separated names or ids of roles that may act on what others made")
    discord_admins: str = Field("", description="Comma-separated ids of Discord users who may act on what others made")
    discord_people: str = Field("", description="Comma-separated ids of Discord users the bot works for; empty means everybody")
    discord_announcements: str = Field(
        "", description="Id of a Discord channel for results; empty: the channel in which the training was started"
    )
    discord_channels: str = Field(
        "", description="Comma-separated ids of channels the bot works in, dm for direct messages; empty means everywhere"
    )

    @field_validator("home", "cache_dir", "weights_dir", "presets_dir")
    @classmethod
    def _expand(cls, folder: Path | None) -> Path | None:
        # No shell has seen what stands in .env.
        return None if folder is None else folder.expanduser()

    @property
    def database(self) -> str:
        """The SQLAlchemy URL in force."""
        return self.database_url or f"sqlite:///{self.home / 'stationmaster.db'}"

    @property
    def storage(self) -> str:
        """The fsspec URL in force."""
        return self.storage_url or str(self.home / "storage")

    @property
    def cache(self) -> Path:
        """The host-local cache folder in force."""
        return self.cache_dir or self.home / "cache"


def entries(setting: str) -> tuple[str, ...]:
    """The entries of a comma-separated setting, without blanks at their ends."""
    return tuple(entry for part in setting.split(",") if (entry := part.strip()))
