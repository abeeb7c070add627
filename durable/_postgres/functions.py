"""Functions in the database, for what takes several statements in one round trip.

The changes of a group of batches are one call, and so one transaction: otherwise each kind of row
would cost a round trip, and each transaction two more. The function keeps the plans of its
statements, so that nothing has to be prepared in a session; they are generic plans, and use the
indexes, since a table that was empty when a plan was made may have grown since.

Rule: a function that another version of the library calls keeps its meaning; one with other
parameters gets another name, and the old one stays as long as its format may be opened.
"""

from __future__ import annotations

from typing import Final, LiteralString

# Raises DU001 (`postgres_errors.SUPERSEDED`) if a shard has another owner by now. The rows of the
# shards are locked until the commit: a claim, which changes them, comes before all of this or
# after it.
_COMMIT: Final[LiteralString] = """
create or replace function durable.commit_group(
    me bigint, shards integer[], epochs bigint[],
    o_class integer[], o_base bytea[], o_shard integer[], o_keyspace bigint[], o_created bigint[],
    o_name bytea[], o_due bigint[], o_scheduled bigint[], o_retries integer[], o_backoff integer[],
    o_history bigint[],
    cleared bigint[], ended bigint[],
    r_keyspace bigint[], r_key bytea[], r_value bytea[],
    rd_keyspace bigint[], rd_key bytea[],
    s_keyspace bigint[], s_key bytea[], s_value bytea[],
    sd_keyspace bigint[], sd_key bytea[],
    e_class integer[], e_base bytea[],
    out makes_garbage boolean, out forgotten bigint[]
) language plpgsql
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    held bigint;
begin
    makes_garbage := false;
    select count(*) into held from (
        select 1 from unnest(shards, epochs) as wanted (shard, epoch)
        join durable.shards as had on had.shard = wanted.shard
            and had.epoch = wanted.epoch and had.owner = me
        order by had.shard for share of had
    ) as locked;
    if held <> cardinality(shards) then
        raise exception 'a shard of this commit has another owner' using errcode = 'DU001';
    end if;
    if cardinality(cleared) > 0 then
        insert into durable.garbage (keyspace)
        select keyspace from unnest(cleared) as old (keyspace)
        where exists (select from durable.records as r where r.keyspace = old.keyspace)
            or exists (select from durable.sides as s where s.keyspace = old.keyspace)
        on conflict do nothing;
        makes_garbage := found;
    end if;
    if cardinality(ended) > 0 then
        insert into durable.garbage_histories select unnest(ended) on conflict do nothing;
        makes_garbage := true;
    end if;
    if cardinality(o_class) > 0 then
        insert into durable.objects as known (
            class_number, base, shard, keyspace, created_us, name,
            due_us, scheduled_us, retry_count, backoff, history
        )
        select * from unnest(
            o_class, o_base, o_shard, o_keyspace, o_created, o_name,
            o_due, o_scheduled, o_retries, o_backoff, o_history
        )
        on conflict (class_number, base) do update set
            keyspace = excluded.keyspace, created_us = excluded.created_us, name = excluded.name,
            due_us = excluded.due_us, scheduled_us = excluded.scheduled_us,
            retry_count = excluded.retry_count, backoff = excluded.backoff,
            history = excluded.history;
    end if;
    if cardinality(r_keyspace) > 0 then
        insert into durable.records (keyspace, key, value)
        select * from unnest(r_keyspace, r_key, r_value)
        on conflict (keyspace, key) do update set value = excluded.value;
    end if;
    if cardinality(rd_keyspace) > 0 then
        delete from durable.records as r using unnest(rd_keyspace, rd_key) as gone (keyspace, key)
        where r.keyspace = gone.keyspace and r.key = gone.key;
    end if;
    if cardinality(s_keyspace) > 0 then
        insert into durable.sides (keyspace, key, value)
        select * from unnest(s_keyspace, s_key, s_value)
        on conflict (keyspace, key) do update set value = excluded.value;
    end if;
    if cardinality(sd_keyspace) > 0 then
        delete from durable.sides as s using unnest(sd_keyspace, sd_key) as gone (keyspace, key)
        where s.keyspace = gone.keyspace and s.key = gone.key;
    end if;
    if cardinality(e_class) > 0 then
        with empty as (
            delete from durable.objects as known
            using unnest(e_class, e_base) with ordinality as maybe (class_number, base, place)
            where known.class_number = maybe.class_number and known.base = maybe.base
                and known.due_us is null and known.history = 0
                and not exists (select from durable.records as r where r.keyspace = known.keyspace)
                and not exists (select from durable.sides as s where s.keyspace = known.keyspace)
            returning maybe.place
        )
        select array_agg(place) into forgotten from empty;
    end if;
end
$$
"""

# An object's row, and its keys and side records from the first on, as far as they take up to *room*
# bytes together; and whether these are all. One more row than fits is read, but not its value.
_WAKE: Final[LiteralString] = """
create or replace function durable.wake(
    of_class integer, of_base bytea, room bigint, count_max integer,
    out keyspace bigint, out created_us bigint, out name bytea,
    out due_us bigint, out scheduled_us bigint, out retry_count integer, out backoff integer,
    out history bigint,
    out keys bytea[], out key_values bytea[], out are_all_keys boolean,
    out sides bytea[], out side_values bytea[], out are_all_sides boolean
) language plpgsql stable
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off
as $$
declare
    of_keyspace bigint;
    used bigint;
begin
    select o.keyspace, o.created_us, o.name,
        o.due_us, o.scheduled_us, o.retry_count, o.backoff, o.history
    into keyspace, created_us, name, due_us, scheduled_us, retry_count, backoff, history
    from durable.objects as o where o.class_number = of_class and o.base = of_base;
    if not found then
        return;
    end if;
    of_keyspace := keyspace;
    select
        array_agg(part.key order by part.key) filter (where part.fits),
        array_agg(part.value order by part.key) filter (where part.fits),
        coalesce(bool_and(part.fits), true),
        coalesce(max(part.size) filter (where part.fits), 0)
    into keys, key_values, are_all_keys, used
    from (
        select one.key, one.value, one.size,
            one.size <= room and one.place <= count_max as fits
        from (
            select of_it.key, of_it.value, row_number() over by_key as place,
                sum(octet_length(of_it.key) + octet_length(of_it.value)) over by_key as size
            from (
                select r.key, r.value from durable.records as r
                where r.keyspace = of_keyspace order by r.key limit count_max + 1
            ) as of_it window by_key as (order by of_it.key rows unbounded preceding)
        ) as one
    ) as part;
    select
        array_agg(part.key order by part.key) filter (where part.fits),
        array_agg(part.value order by part.key) filter (where part.fits),
        coalesce(bool_and(part.fits), true)
    into sides, side_values, are_all_sides
    from (
        select one.key, one.value, one.size,
            one.size <= room - used and one.place <= count_max as fits
        from (
            select of_it.key, of_it.value, row_number() over by_key as place,
                sum(octet_length(of_it.key) + octet_length(of_it.value)) over by_key as size
            from (
                select s.key, s.value from durable.sides as s
                where s.keyspace = of_keyspace order by s.key limit count_max + 1
            ) as of_it window by_key as (order by of_it.key rows unbounded preceding)
        ) as one
    ) as part;
end
$$
"""

# Frees up to *count_max* rows and objects of what is garbage, and returns how many; fewer only if
# there is no more, or another process is just freeing the rest.
_COLLECT: Final[LiteralString] = """
create or replace function durable.collect_garbage(count_max integer) returns integer
language plpgsql
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    room integer := count_max;
    freed integer;
    old bigint;
    deleted integer;
begin
    while room > 0 loop
        select keyspace into old from durable.garbage
        order by keyspace limit 1 for update skip locked;
        if found then
            delete from durable.records where ctid = any (array(
                select ctid from durable.records where keyspace = old limit room));
            get diagnostics freed = row_count;
            room := room - freed;
            delete from durable.sides where ctid = any (array(
                select ctid from durable.sides where keyspace = old limit room));
            get diagnostics freed = row_count;
            room := room - freed;
            if room > 0 then
                delete from durable.garbage where keyspace = old;
            end if;
            continue;
        end if;
        select class_number into deleted from durable.garbage_classes
        order by class_number limit 1 for update skip locked;
        exit when not found;
        with gone as (
            delete from durable.objects where ctid = any (array(
                select ctid from durable.objects where class_number = deleted limit room))
            returning keyspace, history
        ), ended as (
            insert into durable.garbage_histories (keyspace)
            select history from gone where history <> 0 on conflict do nothing
        ), noted as (
            insert into durable.garbage (keyspace) select keyspace from gone
            where exists (select from durable.records as r where r.keyspace = gone.keyspace)
                or exists (select from durable.sides as s where s.keyspace = gone.keyspace)
            on conflict do nothing
        )
        select count(*) into freed from gone;
        room := room - freed;
        if room > 0 then
            delete from durable.garbage_classes where class_number = deleted;
        end if;
    end loop;
    return count_max - room;
end
$$
"""

FUNCTIONS: Final = (_COMMIT, _WAKE, _COLLECT)
