-- Budgets: amounts that many machines spend from together, and never more than there is.

INSERT INTO stream_head (stream, revision) VALUES ('budgets', 0);

-- What operators say of a budget: the row that whoever moves something of it locks first,
-- in the order of tasks.
CREATE TABLE budget (
    task_id      text        COLLATE "C" PRIMARY KEY,
    unit         text        NOT NULL,
    total        bigint      NOT NULL CONSTRAINT budget_total CHECK (total BETWEEN 1 AND 9007199254740991), -- of each window
    parent       text        COLLATE "C" CONSTRAINT budget_parent REFERENCES budget, -- the total is outstanding there
    time_window  smallint    NOT NULL CONSTRAINT budget_time_window CHECK (time_window BETWEEN 0 AND 4), -- 0 none, 1 minute, 2 hour, 3 day, 4 month
    carries_over boolean     NOT NULL,
    thresholds   integer[]   NOT NULL, -- percent
    owner        text        NOT NULL, -- for people
    spenders     text[]      NOT NULL, -- agent ids, or `*` for every agent
    state        smallint    NOT NULL CONSTRAINT budget_state CHECK (state BETWEEN 0 AND 2), -- 0 active, 1 frozen, 2 closed
    created_at   timestamptz NOT NULL,
    recalled_at  timestamptz, -- when machines were last asked to give back what lies idle
    -- of a closed one with a parent: what that has counted as spent of it, and whether the
    -- rest is free there
    counted      bigint      NOT NULL DEFAULT 0 CONSTRAINT budget_counted CHECK (counted >= 0),
    is_released  boolean     NOT NULL DEFAULT false,
    -- what is taken from a parent stays taken for as long as the budget lives, and a window would end
    CONSTRAINT budget_parent_window CHECK (parent IS NULL OR time_window = 0),
    CONSTRAINT budget_carries_over CHECK (NOT carries_over OR time_window > 0)
);

CREATE INDEX budget_unreleased ON budget (task_id) WHERE parent IS NOT NULL AND state = 2; -- for counting closed ones at their parents
CREATE INDEX budget_carrying ON budget (task_id) WHERE carries_over AND state < 2; -- for the turn of windows

-- What there is of a budget in one window.
CREATE TABLE budget_account (
    task_id      text        COLLATE "C" NOT NULL,
    begins_at    timestamptz NOT NULL, -- of the window; 1970 where there are none
    ends_at      timestamptz, -- NULL: never
    total        bigint      NOT NULL,
    reported     bigint      NOT NULL, -- what machines have told that they spent
    overdraft    bigint      NOT NULL, -- the part of it that was more than they had
    outstanding  bigint      NOT NULL, -- held by machines and by budgets below
    movements    bigint      NOT NULL, -- how many there were: the number of the last one
    told_percent integer     NOT NULL, -- the highest threshold that was told
    PRIMARY KEY (task_id, begins_at),
    CONSTRAINT budget_account_amounts CHECK (
        total >= 0 AND reported >= 0 AND outstanding >= 0 AND overdraft BETWEEN 0 AND reported),
    -- the promise
    CONSTRAINT budget_account_within_total CHECK (reported - overdraft + outstanding <= total)
) WITH (fillfactor = 50);

-- The part of it that a machine has, one row for each time that it began anew.
CREATE TABLE budget_slice (
    task_id      text        COLLATE "C" NOT NULL,
    machine_id   uuid        NOT NULL,
    epoch        bigint      NOT NULL, -- counts the machine's slices of the budget
    begins_at    timestamptz NOT NULL, -- of the window
    journal      bigint      NOT NULL, -- of the machine; another one has lost what this one held
    granted      bigint      NOT NULL, -- sums since it began, as the two after it
    returned     bigint      NOT NULL,
    reported     bigint      NOT NULL,
    reserved     bigint      NOT NULL, -- as it was told last
    needed       bigint      NOT NULL, -- likewise: what its callers wait for
    heard_at     timestamptz NOT NULL,
    leased_until timestamptz NOT NULL,
    is_silent    boolean     NOT NULL, -- what it holds counts as spent until it is heard, or settled
    is_closed    boolean     NOT NULL,
    PRIMARY KEY (task_id, machine_id, epoch),
    CONSTRAINT budget_slice_amounts CHECK (
        granted >= 0 AND reported >= 0 AND reserved >= 0 AND needed >= 0 AND returned BETWEEN 0 AND granted),
    CONSTRAINT budget_slice_closed CHECK (NOT is_closed OR reported + returned >= granted) -- it holds nothing
) WITH (fillfactor = 50);

-- Without anything that changes at each exchange, so that those touch no index.
CREATE INDEX budget_slice_open ON budget_slice (task_id) WHERE NOT is_closed; -- for what there is of a budget
CREATE INDEX budget_slice_open_of_machine ON budget_slice (machine_id) WHERE NOT is_closed; -- for telling a machine what it has

-- Every movement, with what there was before and after it.
CREATE TABLE budget_movement (
    task_id            text        COLLATE "C" NOT NULL,
    begins_at          timestamptz NOT NULL, -- of the window
    number             bigint      NOT NULL CONSTRAINT budget_movement_number CHECK (number >= 1),
    kind               smallint    NOT NULL, -- 0 created, 1 topped up, 2 granted, 3 returned, 4 reported, 5 covered, 6 settled, 7 closed, 8 child created, 9 child topped up, 10 child spent, 11 child closed, 12 carried out, 13 carried in
    amount             bigint      NOT NULL CONSTRAINT budget_movement_amount CHECK (amount >= 0),
    machine_id         uuid,   -- whose slice
    epoch              bigint, -- of it
    child              text        COLLATE "C",
    before_total       bigint      NOT NULL,
    before_reported    bigint      NOT NULL,
    before_overdraft   bigint      NOT NULL,
    before_outstanding bigint      NOT NULL,
    total              bigint      NOT NULL,
    reported           bigint      NOT NULL,
    overdraft          bigint      NOT NULL,
    outstanding        bigint      NOT NULL,
    occurred_at        timestamptz NOT NULL,
    PRIMARY KEY (task_id, begins_at, number),
    CONSTRAINT budget_movement_within_total CHECK (reported - overdraft + outstanding <= total),
    -- the amount is what was moved, and nothing else was
    CONSTRAINT budget_movement_moves CHECK (CASE kind
        WHEN 0 THEN (total, reported, overdraft, outstanding) = (before_total + amount, before_reported, before_overdraft, before_outstanding)
        WHEN 1 THEN (total, reported, overdraft, outstanding) = (before_total + amount, before_reported, before_overdraft, before_outstanding)
        WHEN 2 THEN (total, reported, overdraft, outstanding) = (before_total, before_reported, before_overdraft, before_outstanding + amount)
        WHEN 3 THEN (total, reported) = (before_total, before_reported) AND overdraft - before_overdraft + before_outstanding - outstanding = amount
        WHEN 4 THEN (total, reported) = (before_total, before_reported + amount) AND overdraft - before_overdraft + before_outstanding - outstanding = amount
        WHEN 5 THEN (total, reported, overdraft, outstanding) = (before_total, before_reported, before_overdraft - amount, before_outstanding)
        WHEN 6 THEN (total, reported, overdraft, outstanding) = (before_total, before_reported, before_overdraft, before_outstanding - amount)
        WHEN 7 THEN amount = 0 AND (total, reported, overdraft, outstanding) = (before_total, before_reported, before_overdraft, before_outstanding)
        WHEN 8 THEN (total, reported, overdraft, outstanding) = (before_total, before_reported, before_overdraft, before_outstanding + amount)
        WHEN 9 THEN (total, reported, overdraft, outstanding) = (before_total, before_reported, before_overdraft, before_outstanding + amount)
        WHEN 10 THEN (total, reported) = (before_total, before_reported + amount) AND overdraft - before_overdraft + before_outstanding - outstanding = amount
        WHEN 11 THEN (total, reported, overdraft, outstanding) = (before_total, before_reported, before_overdraft, before_outstanding - amount)
        WHEN 12 THEN (total, reported, overdraft, outstanding) = (before_total - amount, before_reported, before_overdraft, before_outstanding)
        WHEN 13 THEN (total, reported, overdraft, outstanding) = (before_total + amount, before_reported, before_overdraft, before_outstanding)
        ELSE false END)
);

CREATE INDEX budget_movement_occurred_at ON budget_movement (occurred_at); -- for forgetting the old

-- Each movement rests on the one before it; the first on nothing.
CREATE FUNCTION check_budget_movements() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM added
        LEFT JOIN budget_movement AS before
            ON before.task_id = added.task_id AND before.begins_at = added.begins_at AND before.number = added.number - 1
        WHERE (added.before_total, added.before_reported, added.before_overdraft, added.before_outstanding)
            IS DISTINCT FROM CASE WHEN added.number = 1 THEN ROW(0::bigint, 0::bigint, 0::bigint, 0::bigint)
                             ELSE ROW(before.total, before.reported, before.overdraft, before.outstanding) END
    ) THEN
        RAISE EXCEPTION 'a movement does not rest on the one before it'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'budget_movement_chain', TABLE = 'budget_movement';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER budget_movement_chain AFTER INSERT ON budget_movement
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION check_budget_movements();

CREATE FUNCTION refuse_budget_movement_update() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a movement is never changed'
        USING ERRCODE = 'check_violation', CONSTRAINT = 'budget_movement_unchanged', TABLE = 'budget_movement';
END $$;

CREATE TRIGGER budget_movement_unchanged BEFORE UPDATE ON budget_movement
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_budget_movement_update();

-- An account is what its last movement has left.
CREATE FUNCTION check_budget_accounts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM written
        LEFT JOIN budget_movement AS last
            ON last.task_id = written.task_id AND last.begins_at = written.begins_at AND last.number = written.movements
        WHERE (written.total, written.reported, written.overdraft, written.outstanding)
            IS DISTINCT FROM (last.total, last.reported, last.overdraft, last.outstanding)
    ) THEN
        RAISE EXCEPTION 'an account is not the sum of its movements'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'budget_account_sum', TABLE = 'budget_account';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER budget_account_sum_of_new AFTER INSERT ON budget_account
    REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION check_budget_accounts();
CREATE TRIGGER budget_account_sum AFTER UPDATE ON budget_account
    REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION check_budget_accounts();

-- Which exchange of slices each machine has had: what is older is refused.
CREATE TABLE budget_exchange (
    machine_id  uuid   PRIMARY KEY,
    incarnation bigint NOT NULL, -- of the process
    sequence    bigint NOT NULL  -- of the call in it
) WITH (fillfactor = 50);
