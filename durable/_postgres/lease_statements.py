"""The statements of the leases: processes and the owners of shards, see `leases.py`.

Rule: each is one statement, and so one snapshot and one transaction, whatever it does.
"""

from __future__ import annotations

from typing import Final, LiteralString

# Numbers in their order, by the time of day, each with some bits of chance; not from the sequence,
# which a standby that lacks the last ones would give again. Two of one number would be one owner.
JOIN: Final = (
    "insert into durable.processes "
    "(id, name, pid, address, version, state, is_alone, machine, expires) "
    "overriding system value values "
    "((extract(epoch from clock_timestamp()) * 1000)::bigint * 1048576 "
    "+ (random() * 1048575)::bigint, "
    "%s, %s, %s, %s, %s, %s, %s, clock_timestamp() + make_interval(secs => %s)) "
    "returning id"
)
FORGET: Final = "delete from durable.processes where name = %s"
OTHERS: Final = (
    "select id, pid, machine, address, is_alone from durable.processes "
    "where expires > clock_timestamp() order by id"
)
IS_ALIVE: Final = "select id from durable.processes where id = %s and expires > clock_timestamp()"
# The first sum rises with each change of an owner, and the second one is another after each change
# of processes: so all rows are read only after one. Of the leases, those that end soon are read.
RENEW: Final = (
    "with mine as (update durable.processes set "
    "expires = clock_timestamp() + make_interval(secs => %(lease_s)s), state = %(state)s "
    "where id = %(me)s and expires > clock_timestamp() returning id), "
    "ending as (select id, "
    "(extract(epoch from expires) - extract(epoch from clock_timestamp()))::double precision "
    "as left_s from durable.processes where id <> %(me)s "
    "and expires < clock_timestamp() + make_interval(secs => %(soon_s)s)) "
    "select (select count(*) from mine), "
    "(select sum(epoch * 2 + (owner is null)::integer) from durable.shards)::bigint, "
    "(select sum(hashtextextended(case id when %(me)s then '' else state end, id)) "
    "from durable.processes)::text, "
    "(select array_agg(id order by id) from ending), "
    "(select array_agg(left_s order by id) from ending)"
)
PROCESSES: Final = (
    "select id, name, pid, address, version, is_alone, state, machine "
    "from durable.processes order by id"
)
SHARDS: Final = "select shard, owner, epoch from durable.shards order by shard"
DECLARE_DEAD: Final = (
    "update durable.processes set expires = '-infinity' where id = any(%s::bigint[]) "
    "and expires <= clock_timestamp() and expires > '-infinity' returning id"
)
# For processes that are certainly dead.
DECLARE_GONE: Final = (
    "update durable.processes set expires = '-infinity' where id = any(%s::bigint[]) "
    "and expires > '-infinity' returning id"
)
# One statement, and so one snapshot: an owner that joins later is in neither table.
DEAD_OWNERS: Final = (
    "select s.owner, extract(epoch from p.expires)::double precision from "
    "(select distinct owner from durable.shards where owner is not null) as s "
    "left join durable.processes as p on p.id = s.owner"
)
# The condition is on the locked rows alone: a claim that has waited for another one sees its
# outcome. The epoch rises to the time of day, in ms: so it is above those that were given before a
# standby has taken over, though it may lack the last claims.
CLAIM: Final = (
    "with free as (select shard from durable.shards where shard = any(%s::integer[]) "
    "and (owner is null or owner = any(%s::bigint[])) order by shard for update) "
    "update durable.shards as s set owner = %s, epoch = greatest(s.epoch + 1, "
    "(extract(epoch from clock_timestamp()) * 1000)::bigint) from free "
    "where s.shard = free.shard and exists "
    "(select from durable.processes where id = %s and expires > clock_timestamp()) "
    "returning s.shard, s.epoch"
)
MINE: Final = (
    "select shard, epoch from durable.shards where shard = any(%s::integer[]) and owner = %s"
)
# With the epochs that were read just before: a release that comes late, since its connection was
# lost, must not free a shard that was claimed again meanwhile.
RELEASE: Final = (
    "with mine as (select s.shard from durable.shards as s "
    "join unnest(%s::integer[], %s::bigint[]) as given (shard, epoch) "
    "on s.shard = given.shard and s.epoch = given.epoch "
    "where s.owner = %s order by s.shard for update of s) "
    "update durable.shards as s set owner = null from mine where s.shard = mine.shard "
    "returning s.shard, s.epoch"
)
RELEASE_ALL: Final[LiteralString] = (
    "with mine as (select shard from durable.shards where owner = %s order by shard for update) "
    "update durable.shards as s set owner = null from mine where s.shard = mine.shard"
)
LEAVE: Final = "delete from durable.processes where id = %s"
# Deletes the processes that are dead and own nothing any more.
SWEEP: Final = (
    "delete from durable.processes as p where p.expires = '-infinity' "
    "and not exists (select from durable.shards as s where s.owner = p.id)"
)
