from __future__ import annotations

from pathlib import Path

import pytest

from cluster.settings import SettingsError, load

SITES = """
[[sites]]
name = "{0}"
objects = "file:///srv/{1}"
catalogue = "sqlite:////srv/{2}"
"""


S3_SITE = """
[[sites]]
name = "a"
objects = "{objects}"
catalogue = "sqlite:////srv/a"
"""


def s3_sites(*more: str, objects: str = "s3://images") -> str:
    """Three sites, of which the first has what is given."""
    first = S3_SITE.format(objects=objects) + "\n".join(more) + "\n"
    return first + sites(("b", "2", "2"), ("c", "3", "3"))


def sites(*three: tuple[str, str, str]) -> str:
    return "".join(SITES.format(*site) for site in three)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("workers = 0", "workers: expected greater than or equal to 1, found 0"),
        ("dicom = 3", "dicom: expected a valid dictionary or instance of Dicom, found 3"),
        ("[dicom]\nprot = 104", "dicom.prot: there is no such setting"),
        ("[[peers]]\nlenient_levels = true", "peers.0.ae_title: is missing"),
        (
            "[etcd]\nprefix = 'atria'",
            "etcd.prefix: expected text that matches ^/[A-Za-z0-9._/-]+/$, found 'atria'",
        ),
        (
            "[dicom]\nae_title = 'A\\B'",
            r"dicom.ae_title: expected 1 to 16 ASCII characters without backslash, found 'A\\B'",
        ),
        ("[writing]\ncopies_before_success = 1", "writing.copies_before_success: with 3 sites"),
        (sites(("a", "1", "1"), ("a", "2", "2"), ("c", "3", "3")), "sites: each needs a name of its own"),
        (
            sites(("a", "1", "1"), ("b", "1", "2"), ("c", "3", "3")),
            "sites: each needs an objects folder of its own",
        ),
        (
            sites(("a", "1", "1"), ("b", "2", "3"), ("c", "3", "3")),
            "sites: each needs a catalogue file of its own",
        ),
    ],
)
def test_a_mistake_is_told_by_file_key_and_what_was_expected(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "atria.toml"
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load(file, dicom={"port": 0})
    assert str(caught.value).startswith(f"{file}: {said}")
    assert "\n" not in str(caught.value)


PEER = "[[peers]]\nae_title = 'VIEWER'\n"


@pytest.mark.parametrize(
    "character_set",
    [
        *("ISO_IR 100", "ISO_IR 192", "GB18030", "GBK", "ISO 2022 IR 149"),
        *("\\ISO 2022 IR 87", "ISO 2022 IR 13\\ISO 2022 IR 87\\ISO 2022 IR 159"),
    ],
)
def test_a_peer_may_have_any_character_set(tmp_path: Path, character_set: str) -> None:
    file = tmp_path / "atria.toml"
    file.write_text(f"{PEER}character_set = '{character_set}'")
    assert load(file).peer("VIEWER").character_set == character_set


@pytest.mark.parametrize(
    "character_set",
    [
        "",
        "latin1",
        "ISO_IR 87",
        "ISO_IR 999",
        "ISO_IR 100\\ISO_IR 144",
        "ISO_IR 192\\ISO 2022 IR 87",
        "\\",
        "é",
    ],
)
def test_a_character_set_that_is_none_is_told_by_its_key(tmp_path: Path, character_set: str) -> None:
    file = tmp_path / "atria.toml"
    for table, key in ((PEER, "peers.0"), ("[dicom]\n", "dicom")):
        file.write_text(f"{table}character_set = '{character_set}'")
        with pytest.raises(SettingsError) as caught:
            load(file)
        said = f"{file}: {key}.character_set: expected a Defined Term of Specific Character Set"
        assert str(caught.value).startswith(said)


def test_what_a_peer_does_not_say_is_as_for_all(tmp_path: Path) -> None:
    file = tmp_path / "atria.toml"
    file.write_text(
        "[dicom]\ncharacter_set = 'ISO_IR 100'\nlenient_levels = true\n"
        f"{PEER}character_set = 'ISO_IR 192'\n[[peers]]\nae_title = 'STRICT'\nlenient_levels = false"
    )
    settings = load(file)
    told = [
        (peer.character_set, peer.lenient_levels)
        for peer in map(settings.peer, ("VIEWER", "STRICT", "NOBODY", "", "???"))
    ]
    assert told == [("ISO_IR 192", True), ("ISO_IR 100", False), *[("ISO_IR 100", True)] * 3]
    assert (load(None).peer("X").character_set, load(None).peer("X").lenient_levels) == (None, False)


def test_two_peers_of_one_ae_title_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "atria.toml"
    file.write_text(PEER * 2)
    with pytest.raises(SettingsError, match="peers: each needs an ae_title of its own, found VIEWER, VIEWER"):
        load(file)


def test_a_mistake_on_the_command_line_names_no_file() -> None:
    with pytest.raises(SettingsError, match=r"^dicom\.port: expected .*65535, found 70000$"):
        load(None, dicom={"port": 70000})


HTTPS = 'endpoint = "https://minio-a.example:9000"'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (s3_sites(), "endpoint: expected https://HOST:PORT of the server, found nothing"),
        (s3_sites('endpoint = "minio-a:9000"'), "endpoint: expected https://HOST:PORT or http://HOST:PORT"),
        (s3_sites('endpoint = "ftp://minio-a"'), "endpoint: expected https://HOST:PORT or http://HOST:PORT"),
        (s3_sites('endpoint = "https://minio-a/images"'), "endpoint: expected https://HOST:PORT"),
        (
            s3_sites('endpoint = "https://minio-a:99999"'),
            "endpoint: expected https://HOST:PORT, found no URL",
        ),
        (s3_sites(HTTPS, objects="s3://images/ct"), "objects: expected s3://BUCKET"),
        (s3_sites(HTTPS, objects="s3://Images"), "objects: expected s3://BUCKET"),
        (s3_sites(HTTPS, objects="gs://images"), "objects: expected file:///FOLDER or s3://BUCKET"),
        (
            s3_sites('endpoint = "http://minio-a"', 'ca_file = "/etc/ca.pem"'),
            "ca_file: is for https only, and the endpoint is http://minio-a",
        ),
        (
            s3_sites('endpoint = "https://minio-a"', objects="file:///srv/a"),
            "endpoint: is for s3://BUCKET only, and objects is file:///srv/a",
        ),
        (
            s3_sites("require_versioning = true", objects="file:///srv/a"),
            "require_versioning: is for s3://BUCKET only",
        ),
    ],
)
def test_a_mistake_in_a_bucket_is_told_by_site_and_key(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "atria.toml"
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load(file)
    assert str(caught.value).startswith(f"{file}: sites.0: site a: {said}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        s3_sites('endpoint = "https://someone:sesame@minio-a:9000"'),
        s3_sites('endpoint = "https://someone@minio-a"'),
        s3_sites(HTTPS, objects="s3://someone:sesame@images"),
        s3_sites(objects="https://someone:sesame@minio-a/images"),
    ],
)
def test_credentials_in_a_url_are_refused_and_not_shown(tmp_path: Path, text: str) -> None:
    file = tmp_path / "atria.toml"
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load(file)
    assert "someone" not in str(caught.value)
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://minio.example", "https://minio.example:443/"),
        ("http://MINIO.example:80", "http://minio.example"),
        ("https://[fd00::1]:9000", "https://[fd00::1]:9000/"),
    ],
)
def test_two_sites_that_are_the_same_bucket_are_refused(one: str, other: str) -> None:
    buckets = [
        {
            "name": name,
            "objects": "s3://images",
            "catalogue": f"sqlite:////srv/{name}",
            "endpoint": endpoint,
        }
        for name, endpoint in (("a", one), ("b", other), ("c", "https://third.example"))
    ]
    with pytest.raises(SettingsError, match=r"^sites: each needs a bucket of its own, found "):
        load(None, sites=buckets)
    buckets[1]["objects"] = "s3://others"
    assert [site.bucket for site in load(None, sites=buckets).sites] == ["images", "others", "images"]


@pytest.mark.parametrize("title", ["ATRIA", " ATRIA ", "A B/C.1", "X" * 16])
def test_an_ae_title_is_taken_without_the_padding(title: str) -> None:
    assert load(None, dicom={"ae_title": title}).dicom.ae_title == title.strip()


def database_sites(*catalogues: str, more: str = "") -> str:
    """Three sites, the first of which have the catalogues that are given."""
    every = [*catalogues, *(f"sqlite:////srv/{name}" for name in "abc")][:3]
    tables = (
        f'[[sites]]\nname = "{name}"\nobjects = "file:///srv/{name}"\ncatalogue = "{catalogue}"\n'
        for name, catalogue in zip("abc", every, strict=True)
    )
    first, *others = tables
    return "".join((first, f"{more}\n", *others))


DATABASE = "postgresql://atria@db-a.example:5433/atria"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            database_sites("mysql://atria@db-a/atria"),
            "catalogue: expected sqlite:////FILE or postgresql://USER@HOST",
        ),
        (
            database_sites("postgresql://db-a/atria"),
            "catalogue: expected postgresql://USER@HOST:PORT/DATABASE",
        ),
        (
            database_sites("postgresql://atria@db-a"),
            "catalogue: expected postgresql://USER@HOST:PORT/DATABASE",
        ),
        (database_sites("postgresql://atria@db-a/x/y"), "catalogue: expected postgresql://USER@HOST"),
        (database_sites("postgresql://atria@/atria"), "catalogue: expected postgresql://USER@HOST"),
        (database_sites("postgresql://atria@db-a,db-b/atria"), "catalogue: expected postgresql://USER@HOST"),
        (database_sites("postgresql://atria@db-a:99999/atria"), "catalogue: expected postgresql://USER@HOST"),
        (database_sites(f"{DATABASE}?sslmode=always"), "catalogue: sslmode: expected disable, allow, prefer"),
        (database_sites(f"{DATABASE}?fsync=off"), "catalogue: expected no parameter but sslcert"),
        (
            database_sites(more='catalogue_passfile = "/etc/atria/pgpass"'),
            "catalogue_passfile: is for postgresql:// only, and catalogue is sqlite:////srv/a",
        ),
    ],
)
def test_a_mistake_in_a_database_is_told_by_site_and_key(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "atria.toml"
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load(file)
    assert str(caught.value).startswith(f"{file}: sites.0: site a: {said}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "catalogue",
    [
        "postgresql://someone:sesame@db-a/atria",
        "postgresql://someone:sesame/1@db-a/atria",
        "postgresql://someone:ses[ame@db-a/atria",
        "postgresql://someone@db-a/atria?password=sesame",
        "postgres://someone:sesame@db-a/atria",
    ],
)
def test_a_password_in_a_database_is_refused_and_not_shown(tmp_path: Path, catalogue: str) -> None:
    file = tmp_path / "atria.toml"
    file.write_text(database_sites(catalogue))
    with pytest.raises(SettingsError) as caught:
        load(file)
    assert "ses" not in str(caught.value)


def test_a_database_may_say_how_its_connection_is_protected_and_where_its_password_is(tmp_path: Path) -> None:
    file = tmp_path / "atria.toml"
    file.write_text(
        database_sites(
            f"{DATABASE}?sslmode=verify-full&sslrootcert=/etc/ca.pem",
            more='catalogue_passfile = "/etc/atria/pgpass"',
        )
    )
    site, other, _ = load(file).sites
    assert site.is_postgresql
    assert (site.database.user, site.database.database) == ("atria", "atria")
    assert site.catalogue_passfile == Path("/etc/atria/pgpass")
    assert not other.is_postgresql


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("postgresql://atria@db.example/atria", "postgresql://else@DB.example:5432/atria?sslmode=require"),
        ("postgresql://atria@[fd00::1]:5433/images", "postgresql://atria@[fd00::1]:5433/im%61ges"),
    ],
)
def test_two_sites_that_have_the_same_database_are_refused(tmp_path: Path, one: str, other: str) -> None:
    file = tmp_path / "atria.toml"
    file.write_text(database_sites(one, other))
    with pytest.raises(SettingsError, match=r"sites: each needs a database of its own, found "):
        load(file)
    file.write_text(database_sites(one, f"{other.partition('?')[0]}2"))
    assert load(file).sites[1].is_postgresql
