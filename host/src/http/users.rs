//! People.

use bulkhead_core::Permission;
use bulkhead_core::Role;
use bulkhead_core::principal::PrincipalName;
use bulkhead_services::identity::user;
use http::Method;
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::input::{Json, Making, New};
use super::page::{Page, Which};
use super::place::{AtUser, Users};
use super::principals::{self, Ended, Shown};
use super::problem::Problem;
use super::route::{Call, Nothing, Reply, Route};
use super::schema;

/// A person to be let in.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// What they log in as.
    #[schema(value_type = schema::Name)]
    pub name: PrincipalName,
    /// What they are here.
    #[serde(default)]
    #[schema(value_type = Vec<schema::RoleName>, max_items = 6)]
    pub roles: Vec<Role>,
    /// Their name for people.
    #[serde(default)]
    #[schema(max_length = 100)]
    pub display: String,
}

/// A person who was let in.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct MadeUser {
    /// The person.
    pub user: Shown,
    /// What they log in with first. They choose another then. It is shown this once.
    pub password: String,
}

/// What a person logs in with first, after a reset. It is shown this once.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct FirstPassword {
    /// The password.
    pub password: String,
    /// What ended with the reset.
    pub ended: Ended,
}

/// What is to be otherwise. What is absent stays.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserChange {
    /// What they are here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<schema::RoleName>>)]
    pub roles: Option<Vec<Role>>,
    /// Their name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display: Option<String>,
    /// Whether they are kept out. Their keys, sessions and tokens end with that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
}

impl Making for NewUser {
    fn name(&self) -> &str {
        self.name.as_str()
    }
}

pub(super) fn routes() -> Vec<Route> {
    const ALL: &str = "/v1/tenants/{tenant}/users";
    const ONE: &str = "/v1/tenants/{tenant}/users/{user}";
    const RESET: &str = "/v1/tenants/{tenant}/users/{user}/reset-totp";
    let (read, update) = (Permission::UserRead, Permission::UserUpdate);
    vec![
        Route::cleared((Method::GET, ALL), ("list-users", "People of a tenant"), read, list),
        Route::cleared((Method::POST, ALL), ("create-user", "Let a person in"), Permission::UserCreate, create)
            .makes()
            .tagged()
            .shows_a_secret(),
        Route::cleared((Method::GET, ONE), ("show-user", "One person"), read, show).tagged(),
        Route::cleared((Method::PATCH, ONE), ("change-user", "Change a person's roles"), update, change).revises(),
        Route::cleared(
            (Method::POST, RESET),
            ("reset-user", "End a person's second factor, password, keys, sessions and tokens, and give them a first password again"),
            update,
            reset,
        )
        .shows_a_secret(),
        Route::cleared((Method::DELETE, ONE), ("remove-user", "Remove a person"), Permission::UserDelete, remove),
    ]
}

async fn list(call: Call<Users, (), Which>) -> Result<Reply<Page<Shown>>, Problem> {
    let list = format!("/v1/tenants/{}/users", call.at.tenant);
    let (limit, after) = call.query.bounds(&list)?;
    let listed = call.shared.control.identity.list_users(&call.by, after.as_deref(), limit).await?;
    principals::page(&call.query, &list, listed)
}

async fn create(call: Call<Users, New<NewUser>>) -> Result<Reply<MadeUser>, Problem> {
    let New(NewUser { name, roles, display }) = call.body;
    let made = call.shared.control.identity.create_user(call.by, user::Spec { roles, display }).await?;
    let (revision, password) = (made.user.revision, made.password.expose_secret().to_owned());
    let at = format!("/v1/tenants/{}/users/{name}", call.at.tenant);
    Ok(Reply::new(MadeUser { user: made.user.record.into(), password }).tagged(revision).located(&at))
}

async fn show(call: Call<AtUser>) -> Result<Reply<Shown>, Problem> {
    Ok(principals::shown(call.shared.control.identity.get_user(&call.by).await?))
}

async fn change(call: Call<AtUser, Json<UserChange>>) -> Result<Reply<Shown>, Problem> {
    let (revision, Json(UserChange { roles, display, disabled })) = (call.revision(), call.body);
    let update = user::Update { roles, display, disabled };
    let user::Changed { user, ended } = call.shared.control.identity.update_user(call.by, revision, update).await?;
    let shown = Shown { ended: ended.map(Ended::from), ..user.record.into() };
    Ok(Reply::new(shown).tagged(user.revision))
}

async fn reset(call: Call<AtUser>) -> Result<Reply<FirstPassword>, Problem> {
    let user::SetBack { password, ended } = call.shared.control.identity.reset_user(call.by).await?;
    Ok(Reply::new(FirstPassword { password: password.expose_secret().to_owned(), ended: ended.into() }))
}

async fn remove(call: Call<AtUser>) -> Result<Reply<Nothing>, Problem> {
    call.shared.control.identity.delete_user(call.by).await?;
    Ok(Reply::nothing())
}
