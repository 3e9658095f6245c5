-- Sessions that their holders have ended before their time.

-- A row stays until no token of its session can be alive, renewals that were under way included.
CREATE TABLE ended_session (
    id       uuid        PRIMARY KEY,
    ended_at timestamptz NOT NULL
);

-- For what control planes read again at a slow beat, and for the job that drops old rows.
CREATE INDEX ended_session_ended_at ON ended_session (ended_at);
