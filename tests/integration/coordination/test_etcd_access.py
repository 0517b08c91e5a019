"""Who may speak with etcd: user and password, and certificates."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from pyetcd import etcdrpc

from cluster.coordination.etcd import EtcdCoordination
from cluster.coordination.protocol import CoordinationUnavailable
from cluster.settings import Etcd
from tests.certificates import Authority, Pair
from tests.etcd import EtcdCluster, own_cluster

_READ_AND_WRITE = 2


class Administrator:
    """What `etcdctl` does about users."""

    def __init__(self, etcd: EtcdCluster) -> None:
        self._channel = grpc.aio.insecure_channel(str(etcd.members[0].address))
        self._auth: Any = etcdrpc.AuthStub(self._channel)
        self._metadata: tuple[tuple[str, str], ...] = ()

    async def __aenter__(self) -> Administrator:
        """Let `atria` use keys below `/atria/`, by the password `secret`."""
        auth = self._auth
        for name in ("root", "atria"):
            await auth.UserAdd(etcdrpc.AuthUserAddRequest(name=name, password="secret"))
            await auth.RoleAdd(etcdrpc.AuthRoleAddRequest(name=name))
            await auth.UserGrantRole(etcdrpc.AuthUserGrantRoleRequest(user=name, role=name))
        permission = etcdrpc.Permission(permType=_READ_AND_WRITE, key=b"/atria/", range_end=b"/atria0")
        await auth.RoleGrantPermission(etcdrpc.AuthRoleGrantPermissionRequest(name="atria", perm=permission))
        await auth.AuthEnable(etcdrpc.AuthEnableRequest())
        token = (await auth.Authenticate(etcdrpc.AuthenticateRequest(name="root", password="secret"))).token
        self._metadata = (("token", token),)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()

    async def change_password(self, password: str) -> None:
        """Change that of `atria`: tokens from before are refused."""
        request = etcdrpc.AuthUserChangePasswordRequest(name="atria", password=password)
        await self._auth.UserChangePassword(request, metadata=self._metadata)

    async def disable(self) -> None:
        await self._auth.AuthDisable(etcdrpc.AuthDisableRequest(), metadata=self._metadata)


def user(etcd: EtcdCluster, folder: Path, password: str = "secret", **changed: object) -> Etcd:
    file = folder / "password"
    file.write_text(f"{password}\n")
    return etcd.settings(**{"prefix": "/atria/", "user": "atria", "password_file": file, **changed})


async def use(store: EtcdCoordination) -> None:
    """Do one thing of each kind."""
    lease = await store.grant(5)
    revision = await store.put("a", b"1", lease=lease)
    await store.keep_alive(lease)
    assert (await store.read("")).entries["a"].changed == revision
    async with aclosing(store.watch("a", revision - 1)) as watch:
        assert (await anext(watch))[0].revision == revision
    await store.revoke(lease)


async def test_a_user_gets_in_by_password_and_nobody_else_does(tmp_path: Path) -> None:
    async with own_cluster() as etcd, Administrator(etcd):
        store = EtcdCoordination(user(etcd, tmp_path))
        await use(store)
        await store.close()
        store = EtcdCoordination(user(etcd, tmp_path, "wrong"))
        with pytest.raises(CoordinationUnavailable, match=r"INVALID_ARGUMENT, .*authentication failed"):
            await store.read("")
        await store.close()
        store = EtcdCoordination(etcd.settings(prefix="/atria/"))
        with pytest.raises(CoordinationUnavailable, match="user name is empty"):
            await store.read("")
        await store.close()


async def test_a_user_who_may_not_is_told_so(tmp_path: Path) -> None:
    async with own_cluster() as etcd, Administrator(etcd):
        store = EtcdCoordination(user(etcd, tmp_path, prefix="/other/"))
        with pytest.raises(CoordinationUnavailable, match=r"PERMISSION_DENIED, .*permission denied"):
            await store.read("")
        with pytest.raises(CoordinationUnavailable, match="permission denied"):
            async with aclosing(store.watch("", 1)) as watch:
                await anext(watch)
        await store.close()


async def test_a_token_that_is_refused_is_fetched_again_by_the_password_of_now(tmp_path: Path) -> None:
    async with own_cluster() as etcd, Administrator(etcd) as administrator:
        store = EtcdCoordination(user(etcd, tmp_path))
        await use(store)
        await administrator.change_password("changed")
        user(etcd, tmp_path, "changed")
        await use(store)
        await etcd.members[0].kill()
        await etcd.mend()  # tokens do not outlive it
        revision = (await store.read("")).revision
        async with aclosing(store.watch("", revision)) as watch:
            await store.put("b", b"1")
            assert (await anext(watch))[0].key == "b"
        await store.close()


async def test_authentication_may_be_switched_on_and_off_meanwhile(tmp_path: Path) -> None:
    async with own_cluster() as etcd:
        store = EtcdCoordination(user(etcd, tmp_path))
        await use(store)
        async with Administrator(etcd) as administrator:
            await use(store)
            await administrator.disable()
            await use(store)
        await store.close()


async def test_a_password_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    async with own_cluster() as etcd:
        store = EtcdCoordination(user(etcd, tmp_path, password_file=tmp_path / "none"))
        with pytest.raises(CoordinationUnavailable, match="none: cannot be read: No such file"):
            await store.read("")
        await store.close()


async def test_certificates_let_us_in_and_show_who_it_is(tmp_path: Path) -> None:
    authority, stranger = Authority(tmp_path), Authority(tmp_path, "stranger")
    ours, theirs = authority.pair("atria"), stranger.pair("other")

    def certified(ca_file: Path, pair: Pair | None) -> EtcdCoordination:
        shown = {"certificate_file": pair.certificate_file, "key_file": pair.key_file} if pair else {}
        return EtcdCoordination(etcd.settings(ca_file=ca_file, **shown))

    async with own_cluster(authority=authority) as etcd:
        store = certified(authority.file, ours)
        await use(store)
        await store.close()
        for store in (
            certified(stranger.file, ours),
            certified(authority.file, None),
            certified(authority.file, theirs),
        ):
            with pytest.raises(CoordinationUnavailable, match="etcd did not answer within 2 s"):
                await store.read("")
            await store.close()
        store = certified(tmp_path / "none", ours)
        with pytest.raises(CoordinationUnavailable, match="none: cannot be read: No such file"):
            await store.read("")
        await store.close()


async def test_certificates_that_were_renewed_are_used_without_a_restart(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    theirs = Authority(tmp_path, "stranger").pair("atria")
    async with own_cluster(authority=authority) as etcd:
        shown = {"certificate_file": theirs.certificate_file, "key_file": theirs.key_file}
        store = EtcdCoordination(etcd.settings(ca_file=authority.file, **shown))
        with pytest.raises(CoordinationUnavailable):
            await store.read("")
        authority.pair("atria")
        await use(store)
        await store.close()
