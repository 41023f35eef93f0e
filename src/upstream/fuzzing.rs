//! The form of a request on its connection, for the fuzz targets.

use http::Request;

use super::form::Form;
use super::{Endpoint, Protocol};

/// Makes `request`, in origin-form with a `Host`, into what is sent to `endpoint`.
pub fn fit(request: &mut Request<()>, endpoint: &Endpoint, protocol: Protocol) {
    Form::of(endpoint, protocol).fit(request);
}

/// Makes it into origin-form again.
pub fn unfit(request: &mut Request<()>) {
    Form::Origin.fit(request);
}
