-- Budgets of a restored database give nothing until machines have told what it has forgotten.

SET LOCAL lock_timeout = '3s';

ALTER TABLE budget
    ADD COLUMN is_held    boolean NOT NULL DEFAULT false, -- nothing is given of it
    ADD COLUMN held_since timestamptz, -- of the last hold, also where that has ended; null: there was none
    ADD COLUMN held_as_of timestamptz, -- of the last hold: the state of which time was restored
    ADD CONSTRAINT budget_held CHECK ((held_since IS NULL) = (held_as_of IS NULL) AND (held_since IS NOT NULL OR NOT is_held));

CREATE INDEX budget_held ON budget (held_since) WHERE is_held; -- for the newest hold, and for ending them

-- What a machine holds of it is of before a restore: what it tells is believed, and all of it is given back.
ALTER TABLE budget_slice ADD COLUMN is_restored boolean NOT NULL DEFAULT false;

-- 14 restored: a machine was given more than the database knew
ALTER TABLE budget_movement
    DROP CONSTRAINT budget_movement_moves,
    ADD CONSTRAINT budget_movement_moves CHECK (CASE kind
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
        WHEN 14 THEN (total, reported) = (before_total, before_reported) AND before_overdraft - overdraft + outstanding - before_outstanding = amount
        ELSE false END) NOT VALID; -- all that is there has held to the narrower one

-- Machines that have told all that they remember.
CREATE TABLE budget_recall (
    machine_id      uuid        PRIMARY KEY,
    told            timestamptz NOT NULL, -- since the hold that began then
    remembers_since timestamptz NOT NULL  -- slices that were over before are forgotten
);

-- Machines of which an operator has said what they have spent of a budget that is held.
CREATE TABLE budget_hold_word (
    task_id    text        COLLATE "C" NOT NULL,
    machine_id uuid        NOT NULL,
    held_since timestamptz NOT NULL, -- in which hold
    PRIMARY KEY (task_id, machine_id)
);

-- Machines that may have spent from a budget what the restored database has forgotten, and have not told all of it.
CREATE VIEW budget_awaited AS
SELECT budget.task_id, one.machine_id, recall.remembers_since -- null: it was not heard
FROM budget
CROSS JOIN LATERAL (
    SELECT machine.id AS machine_id FROM machine
    WHERE machine.state = 'active' AND machine.created_at <= budget.held_since
      AND (machine.agent_ids IS NULL OR '*' = ANY (budget.spenders) OR machine.agent_ids && budget.spenders)
    UNION ALL -- a machine may stand there twice: whoever asks whether there is any stops at the first
    SELECT slice.machine_id FROM budget_slice AS slice
    WHERE slice.task_id = budget.task_id AND NOT slice.is_closed AND slice.is_restored
) AS one
LEFT JOIN budget_recall AS recall ON recall.machine_id = one.machine_id AND recall.told >= budget.held_since
WHERE budget.is_held
  AND (recall.machine_id IS NULL OR recall.remembers_since > budget.held_as_of)
  AND NOT EXISTS (
      SELECT FROM budget_hold_word AS word
      WHERE word.task_id = budget.task_id AND word.machine_id = one.machine_id AND word.held_since = budget.held_since);
