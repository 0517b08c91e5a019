"""The DIMSE-C services as their user (SCU), on an association of either role (PS3.7 9.1, 9.3)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable
from contextlib import aclosing
from dataclasses import replace
from typing import Final

from cluster.dicom.association import Association, Message
from cluster.dicom.command_set import CommandField, CommandSet, Priority
from cluster.dicom.faults import LocalProtocolError
from cluster.dicom.message import Buffer
from cluster.dicom.negotiation import PresentationContext
from cluster.dicom.uids import VERIFICATION
from cluster.dicom.upper_layer import Role

IDENTIFIER_LIMIT_BYTES: Final = 1024 * 1024
_RESPONSE: Final = 0x8000
_PENDING: Final = frozenset({0xFF00, 0xFF01})
"""Statuses of a response that is not the last (PS3.7 annex C)."""


class NoContext(LocalProtocolError):
    """No presentation context was accepted for what was to be sent."""


def context_for(
    association: Association, abstract_syntax: str, transfer_syntax: str | None = None
) -> PresentationContext:
    """Return a presentation context in which we are SCU.

    Parameters
    ----------
    association : Association
    abstract_syntax : str
    transfer_syntax : str, optional
        The one it has to have; any, when left out.

    Raises
    ------
    NoContext
        None was accepted.
    """
    for context in association.contexts_for(abstract_syntax):
        is_scu = context.scu_role if association.role is Role.REQUESTOR else context.scp_role
        if is_scu and transfer_syntax in (None, context.transfer_syntax):
            return context
    encoding = f" in {transfer_syntax}" if transfer_syntax else ""
    raise NoContext(f"no presentation context was accepted for {abstract_syntax}{encoding}")


async def echo(association: Association) -> int:
    """Ask whether the peer is there (C-ECHO, PS3.7 9.1.5), and return the status.

    Raises
    ------
    NoContext
    AssociationEnded
    """
    context = context_for(association, VERIFICATION)
    request = CommandSet(
        CommandField.C_ECHO_RQ,
        message_id=association.next_message_id(),
        affected_sop_class_uid=VERIFICATION,
    )
    await association.send(context.context_id, request)
    return _status((await _next_response(association, request)).command)


async def store(
    association: Association,
    *,
    sop_class_uid: str,
    sop_instance_uid: str,
    transfer_syntax_uid: str,
    data_set: Iterable[Buffer] | AsyncIterable[Buffer],
    priority: int = Priority.MEDIUM,
    move_originator: tuple[str, int] | None = None,
) -> CommandSet:
    """Send an instance (C-STORE, PS3.7 9.1.1), and return the response.

    Parameters
    ----------
    association : Association
    sop_class_uid, sop_instance_uid, transfer_syntax_uid : str
        Of the instance; it is sent as it is.
    data_set : iterable or asynchronous iterable of bytes-like
        Its data set.
    priority : int
    move_originator : tuple of str and int, optional
        Calling AE title and message ID of the C-MOVE-RQ that this is a sub-operation of.

    Raises
    ------
    NoContext
    AssociationEnded
    Exception
        What `data_set` raised; the association is aborted then.
    """
    context = context_for(association, sop_class_uid, transfer_syntax_uid)
    originator, originator_message_id = move_originator or (None, None)
    request = CommandSet(
        CommandField.C_STORE_RQ,
        message_id=association.next_message_id(),
        affected_sop_class_uid=sop_class_uid,
        affected_sop_instance_uid=sop_instance_uid,
        priority=priority,
        move_originator_application_entity_title=originator,
        move_originator_message_id=originator_message_id,
    )
    await association.send(context.context_id, request, data_set)
    return (await _next_response(association, request)).command


async def find(
    association: Association, model_uid: str, identifier: bytes, *, priority: int = Priority.MEDIUM
) -> AsyncGenerator[tuple[CommandSet, bytes | None], None]:
    """Query (C-FIND, PS3.7 9.1.2): yield each response with its Identifier, the final one last.

    Left early (`aclose`), the request is cancelled and what still comes is dropped.

    Parameters
    ----------
    association : Association
    model_uid : str
        SOP class of the information model.
    identifier : bytes
        In the transfer syntax of `context_for(association, model_uid)`.
    priority : int

    Raises
    ------
    NoContext
    AssociationEnded
        Also when an Identifier of more than `IDENTIFIER_LIMIT_BYTES` comes.
    """
    request = _request(association, CommandField.C_FIND_RQ, model_uid, priority)
    async with aclosing(_exchange(association, request, identifier)) as responses:
        async for message in responses:
            yield message.command, await _identifier(association, message)


async def move(
    association: Association,
    model_uid: str,
    identifier: bytes,
    destination: str,
    *,
    priority: int = Priority.MEDIUM,
) -> AsyncGenerator[CommandSet, None]:
    """Have instances sent to another AE (C-MOVE, PS3.7 9.1.4): yield each response, the final one last.

    Left early (`aclose`), the request is cancelled and what still comes is dropped.

    Parameters
    ----------
    association : Association
    model_uid : str
        SOP class of the information model.
    identifier : bytes
        In the transfer syntax of `context_for(association, model_uid)`.
    destination : str
        AE title that the instances are sent to.
    priority : int

    Raises
    ------
    NoContext
    AssociationEnded
    """
    request = _request(association, CommandField.C_MOVE_RQ, model_uid, priority)
    request = replace(request, move_destination=destination)
    async with aclosing(_exchange(association, request, identifier)) as responses:
        async for message in responses:
            yield message.command


async def get(
    association: Association,
    model_uid: str,
    identifier: bytes,
    on_store: Callable[[Message], Awaitable[int]],
    *,
    priority: int = Priority.MEDIUM,
) -> AsyncGenerator[CommandSet, None]:
    """Have instances sent here (C-GET, PS3.7 9.1.3): yield each response, the final one last.

    Left early (`aclose`), the request is cancelled and what still comes is dropped.

    Parameters
    ----------
    association : Association
        With contexts of the instances' SOP classes in which we are SCP.
    model_uid : str
        SOP class of the information model.
    identifier : bytes
        In the transfer syntax of `context_for(association, model_uid)`.
    on_store : callable
        Is awaited with each C-STORE request that comes, reads its data set, and returns the status to answer.
    priority : int

    Raises
    ------
    NoContext
    AssociationEnded
    """
    request = _request(association, CommandField.C_GET_RQ, model_uid, priority)
    async with aclosing(_exchange(association, request, identifier, on_store)) as responses:
        async for message in responses:
            yield message.command


def _request(
    association: Association, command_field: CommandField, model_uid: str, priority: int
) -> CommandSet:
    return CommandSet(
        command_field,
        message_id=association.next_message_id(),
        affected_sop_class_uid=model_uid,
        priority=priority,
    )


async def _exchange(
    association: Association,
    request: CommandSet,
    identifier: bytes,
    on_store: Callable[[Message], Awaitable[int]] | None = None,
) -> AsyncGenerator[Message, None]:
    """Send a request with an Identifier, and yield its responses to the final one."""
    assert request.affected_sop_class_uid is not None
    context = context_for(association, request.affected_sop_class_uid)
    await association.send(context.context_id, request, [identifier])
    is_final = False
    try:
        while not is_final:
            message = await _next_response(association, request, on_store)
            is_final = _status(message.command) not in _PENDING
            yield message
    except GeneratorExit:
        if not is_final and not association.ended:
            await _cancel(association, context, request)
        raise


async def _cancel(association: Association, context: PresentationContext, request: CommandSet) -> None:
    """Cancel a request (C-CANCEL, PS3.7 9.3.2.3), and drop what comes until its final response."""
    cancel = CommandSet(CommandField.C_CANCEL_RQ, message_id_being_responded_to=request.message_id)
    await association.send(context.context_id, cancel)
    while _status((await _next_response(association, request, _refuse)).command) in _PENDING:
        pass


async def _refuse(_: Message) -> int:
    """Answer a sub-operation that nobody waits for any more: Refused, Out of Resources (PS3.4 B.2.3)."""
    return 0xA700


async def _next_response(
    association: Association,
    request: CommandSet,
    on_store: Callable[[Message], Awaitable[int]] | None = None,
) -> Message:
    """Wait for the next response to a request; C-STORE requests that come before it are answered."""
    while True:
        message = await association.receive()
        command = message.command
        if on_store is not None and command.command_field == CommandField.C_STORE_RQ:
            answer = CommandSet(
                CommandField.C_STORE_RSP,
                message_id_being_responded_to=command.message_id,
                affected_sop_class_uid=command.affected_sop_class_uid,
                affected_sop_instance_uid=command.affected_sop_instance_uid,
                status=await on_store(message),
            )
            await association.send(message.context.context_id, answer)
            continue
        expected = (request.command_field | _RESPONSE, request.message_id)
        if (
            command.command_field,
            command.message_id_being_responded_to,
        ) != expected or command.status is None:
            raise association.fail(f"command {command.command_field:04X}H is no answer to what was asked")
        return message


def _status(response: CommandSet) -> int:
    assert response.status is not None
    return response.status


async def _identifier(association: Association, message: Message) -> bytes | None:
    if message.data_set is None:
        return None
    identifier = b"".join(await message.data_set.read(IDENTIFIER_LIMIT_BYTES))
    if not message.data_set.at_end:
        raise association.fail(f"an Identifier of more than {IDENTIFIER_LIMIT_BYTES} bytes")
    return identifier
